"""How fast text is encoded: `python -m benchmarks.text_rates [--quick]`, from the project's root.

The encoder of `training.models.emotion.encoder`, in whole numbers as it is served, against the same weights through
`sentence-transformers`, one thread, on the same texts in turn: one after the other, as a server gets them, and all at once. Before its maps
are in whole numbers it must give the same vectors, and with them nearly the same. Writes benchmarks/results/text_rates.json.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import results
from benchmarks.harness import log
from training.models import MODELS
from training.models.emotion import encoder as minilm
from training.models.emotion import model as emotion
from training.registry import bundle as bundles

TEXTS = (
    "Third time the parcel is late, and nobody answers the phone.",
    "Thank you!",
    "The shoes are fine, but half a size too small; can I change them for others without paying the postage?",
    "Where is my order",
    "Works as described. Would buy again.",
    "I was told that I would have my money back within two weeks, and now it has been five. This is not acceptable.",
    "ok",
    "Do you have it in blue, and would it be here before Friday?",
)
ROUNDS, QUICK_ROUNDS, REPEATS = 15, 2, 8
CLOSE = 1e-3  # of the encoder before its maps are in whole numbers
MIN_COSINE = 0.95  # of it after that


def ours(encoder: minilm.Encoder, texts: list[str]) -> Any:
    """Return the sentence vectors of texts, those of as many pieces each together: the mean of their pieces, of length 1."""
    given = minilm.pieces(texts)
    out = np.empty((len(texts), minilm.WIDTH), np.float32)
    with torch.inference_mode():
        for group in minilm.equal_length_groups(given.offsets, emotion.GROUP):
            mean = encoder(torch.from_numpy(given.rows(group))).mean(1)
            out[group] = (mean / mean.norm(dim=1, keepdim=True)).numpy()
    return out


def _packaged() -> Path:
    path = MODELS["emotion"].default
    assert path is not None, "the emotion model comes with the package; this is a bug"
    return path


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds; prints, and writes nothing")
    quick = parser.parse_args().quick
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    theirs = SentenceTransformer(str(minilm.model_path()), device="cpu")
    encoder = minilm.quantize(minilm.encoder(), emotion.ranges(bundles.load(_packaged())))
    texts = list(TEXTS)
    right = theirs.encode(texts)
    cosine = float((ours(encoder, texts) * right).sum(axis=1).min())
    if np.abs(ours(minilm.encoder(), texts) - right).max() > CLOSE or cosine < MIN_COSINE:
        sys.exit("the encoders give different vectors; nothing is recorded")
    calls: dict[str, Any] = {
        "single": lambda: [ours(encoder, [text]) for text in texts],
        "single_theirs": lambda: [theirs.encode([text]) for text in texts],
        "together": lambda: ours(encoder, texts * REPEATS),
        "together_theirs": lambda: theirs.encode(texts * REPEATS),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - began) / (len(texts) * (REPEATS if "together" in name else 1)))
    ratios = {
        f"{name}_times_sentence_transformers": round(
            statistics.median(one / other for one, other in zip(times[f"{name}_theirs"], times[name], strict=True)), 2
        )
        for name in ("single", "together")
    }
    log(", ".join(f"{name} {statistics.median(took) * 1e3:.2f} ms a text" for name, took in times.items()))
    log(str(ratios))
    facts = {"texts": len(texts), "min_cosine": round(cosine, 4)}
    results.conclude("text_rates", {**facts, "seconds_a_text": times, **ratios}, write=not quick)


if __name__ == "__main__":
    main()
