"""How fast text is encoded: `python -m benchmarks.text_rates [--quick]`, from the project's root.

The encoder of `training.models.minilm` against the same weights through `sentence-transformers`, one thread, on the same texts in turn: one
after the other, as a server gets them, and all at once. Both must give the same vectors. Writes benchmarks/results/text_rates.json.
"""

import argparse
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks import results
from benchmarks.gauge import say
from training.models import minilm

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
ROUNDS, QUICK_ROUNDS, REPEATS = 15, 2, 4
CLOSE = 1e-3


def ours(encoder: minilm.Encoder, texts: list[str]) -> Any:
    """Return the sentence vectors of texts, each computed alone: the mean of their pieces, of length 1."""
    given = minilm.pieces(texts)
    out = np.empty((len(texts), minilm.WIDTH), np.float32)
    with torch.inference_mode():
        for text, (begin, end) in enumerate(zip(given.offsets[:-1], given.offsets[1:], strict=True)):
            mean = encoder(torch.from_numpy(given.ids[begin:end])[None])[0].mean(0)
            out[text] = (mean / mean.norm()).numpy()
    return out


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds; prints, and writes nothing")
    quick = parser.parse_args().quick
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    encoder, theirs = minilm.encoder(), SentenceTransformer(str(minilm.model_path()), device="cpu")
    texts = list(TEXTS)
    if np.abs(ours(encoder, texts) - theirs.encode(texts)).max() > CLOSE:
        sys.exit("the two encoders say different things; nothing is recorded")
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
    say(", ".join(f"{name} {statistics.median(took) * 1e3:.2f} ms a text" for name, took in times.items()))
    say(str(ratios))
    results.conclude("text_rates", {"texts": len(texts), "seconds_a_text": times, **ratios}, write=not quick)


if __name__ == "__main__":
    main()
