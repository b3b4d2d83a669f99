"""Train the emotion model, step by step: read texts, encode them once, fit the head, calibrate and evaluate it."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.types import F32, F64, I64
from training.errors import CellError, TableError
from training.evaluation import metrics as evaluate
from training.models.emotion import card as emotion_card
from training.models.emotion import encoder as minilm
from training.models.emotion import finetune, quantized, support
from training.models.emotion import model as emotion
from training.models.emotion.encoder import Encoder, Pieces
from training.models.emotion.model import FEATURES, NAMES, EmotionHead
from training.models.emotion.support import SupportFit, SupportHead
from training.models.shared.calibration import probability
from training.registry import bundle as bundles
from training.registry.bundle import Bundle
from training.registry.provenance import origin, software
from training.tables import frames
from training.tables import texts as emotion_table
from training.tables.cells import DEFAULT, CellOptions
from training.tables.texts import EKMAN, EMOTIONS, LabelledTexts

TRAIN, DEV = "train.tsv", "dev.tsv"  # of a folder as GoEmotions is published
MIN_TEXTS = 200
FOLDS = 4  # of the texts: thresholds and calibration are from out-of-fold margins
MIN_PIECE_TEXTS = 6  # with a word piece, for it to have a weight
BATCH, EPOCHS, RATE, WORD_RATE = 256, 12, 1e-3, 3e-3
DECAY, WORD_DECAY, DROPOUT = 0.05, 0.3, 0.3
SMOOTHING = 0.02  # of the labels: three people who read a text do not agree
SMOOTHED = 41  # neighbouring scores over which a threshold's F1 is averaged: the best of few texts is random
MARGIN_SCALE = 2.0  # divisor of margins in the calibration, whose weights are regularised
RANGED = 1000  # texts for the encoder's activation ranges

Progress = Callable[[str, float], None]


class Encoded(NamedTuple):
    """Texts as input of the head: features float16 [texts, FEATURES], their word pieces, and y float32 [texts, len(NAMES)] in {0, 1}."""

    features: NDArray[np.float16]
    pieces: Pieces
    y: F32


def train(
    data: Path,
    out: Path,
    *,
    mapping: Mapping[str, str],
    cells: CellOptions = DEFAULT,
    seed: int,
    progress: Progress,
    full: bool = False,
) -> Bundle:
    """Fit on the texts in `data`, evaluate, write the bundle into `out` (new or empty) and return it.

    data: .tsv without a header, .csv, .csv.gz, .parquet, or a folder with train.tsv, and dev.tsv to evaluate on. Without that the model is
    evaluated on the folds that chose its thresholds. full: fine-tune the whole encoder first, and not the head alone. Raises TableError for
    a wrong or insufficient table, BundleError when `out` is taken.
    """
    bundles.require_free(out)
    progress("reading", 0.0)
    path = data / TRAIN if (data / TRAIN).is_file() else data
    texts = read(path, mapping, cells)
    dev = read(data / DEV, mapping, cells) if (data / DEV).is_file() else None
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        fold = np.random.default_rng(seed).permutation(len(texts.texts)) % FOLDS
        tuned = _fine_tuned(texts, fold, seed, progress) if full else None
        later = partial(_later, progress, 0.6 if full else 1.0)
        sample = emotion.pieces(texts.texts[:: -(-len(texts.texts) // RANGED)])
        encoder = minilm.encoder(tuned)
        ranges = minilm.ranges(encoder, sample)
        minilm.quantize(encoder, ranges)
        whole = encoded(texts, encoder, lambda share: later("encoding texts", 0.03 + 0.68 * share))
        evaluated = None if dev is None else encoded(dev, encoder, lambda share: later("encoding texts to judge by", 0.71 + 0.08 * share))
        own = encoded(support_messages(), encoder, lambda share: None)
        head, rows, margin = fit_with_held_out(whole, fold, full, seed, later)
        outputs, line, figures = judge(head, whole, rows, margin, evaluated, own, seed)
    finally:
        torch.set_num_threads(threads)
    progress("writing", 0.99)
    metrics = {**figures, "texts": len(texts.texts), "seed": seed, "judgedBy": "folds of the texts" if dev is None else DEV, "warnings": []}
    meta = {
        "trainingData": {"name": path.name, "texts": len(texts.texts), **origin(path)},
        "encoder": {"package": minilm.PACKAGE, "licence": "Apache-2.0", "longest": minilm.MAX_PIECES, "fineTuned": full},
        "parameters": {"epochs": EPOCHS, "batch": BATCH, "hidden": emotion.HIDDEN, "seed": seed},
        "software": software("numpy", "torch", "tokenizers", "revenue-engine"),
    }
    from safetensors.torch import save

    files = {
        emotion.HEAD: save(head.packed()),
        emotion.RANGES: save(quantized.packed(ranges)),
        emotion.SUPPORT: save(line.packed()),
        **({} if tuned is None else {emotion.ENCODER: save(tuned)}),
        emotion.OUTPUTS: bundles.encoded(outputs),
        emotion.METRICS: bundles.encoded(metrics),
        emotion.CARD: emotion_card.card(meta, metrics).encode(),
    }
    bundle = bundles.write(out, task=emotion.TASK, files=files, meta=meta)
    progress("done", 1.0)
    return bundle


def _later(progress: Progress, left: float, what: str, share: float) -> None:
    """Report the progress of the remaining share `left`."""
    progress(what, 1 - left + left * share)


def _fine_tuned(texts: LabelledTexts, fold: I64, seed: int, progress: Progress) -> dict[str, torch.Tensor]:
    """Return the weights, float16, of the encoder fine-tuned on the texts that are not in the first fold."""
    y = np.concatenate([texts.labels, emotion_table.grouped(texts.labels)], axis=1)
    learn = np.flatnonzero(fold != 0)
    module = finetune.fine_tuned(emotion.pieces(texts.texts), y, learn, seed, lambda what, share: progress(what, 0.4 * share))
    return {name: tensor.half().contiguous() for name, tensor in module.state_dict().items()}


def read(path: Path, mapping: Mapping[str, str], cells: CellOptions = DEFAULT) -> LabelledTexts:
    """Return the texts of a table. Raises TableError for a wrong cell or column, and for too few rows."""
    try:
        texts = emotion_table.read(frames.read(path, numbers=(), options=cells), mapping)
    except CellError as error:
        raise error.at(frames.place(path, error.row)) from None
    except TableError as error:
        raise error if str(error).startswith(str(path)) else TableError(f"{path}: {error}") from None
    if len(texts.texts) < MIN_TEXTS:
        raise TableError(f"{path}: insufficient data: {len(texts.texts)} texts, at least {MIN_TEXTS} are needed: label more")
    return texts


def encoded(texts: LabelledTexts, encoder: Encoder, progress: Callable[[float], None]) -> Encoded:
    """Return the texts as input of the head."""
    given = emotion.pieces(texts.texts)
    out, done = np.empty((len(texts.texts), FEATURES), np.float16), 0
    with torch.inference_mode():
        for group in minilm.equal_length_groups(given.offsets, emotion.GROUP):
            ids = given.rows(group)
            out[group] = emotion.features(encoder, torch.from_numpy(ids)).numpy()
            done += ids.size
            progress(done / len(given.ids))
    return Encoded(out, given, np.concatenate([texts.labels, emotion_table.grouped(texts.labels)], axis=1))


def fit(texts: Encoded, learn: I64, seed: int, progress: Progress) -> EmotionHead:
    """Return the head fitted on the texts `learn`, its weights as they will be in the bundle."""
    torch.manual_seed(seed)
    head = EmotionHead(_known(texts.pieces, learn), DROPOUT)
    sample = torch.from_numpy(texts.features[learn].astype(np.float32))
    head.mean.copy_(sample.mean(0))
    head.scale.copy_(sample.std(0) + 1e-6)
    del sample
    words = {"params": [head.bag], "lr": WORD_RATE, "weight_decay": WORD_DECAY}
    rest = {"params": [*head.hidden.parameters(), *head.out.parameters()], "lr": RATE, "weight_decay": DECAY}
    optimizer = torch.optim.AdamW([rest, words])
    batches = -(-len(learn) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, WORD_RATE], total_steps=EPOCHS * batches + 1)
    random = np.random.default_rng(seed)
    head.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in np.array_split(random.permutation(learn), batches):
            y = torch.from_numpy(texts.y[batch]) * (1 - SMOOTHING) + SMOOTHING / len(EMOTIONS)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(_margins(head, texts, batch), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / batches
        progress(f"loss {total:.4f}", (epoch + 1) / EPOCHS)
    return EmotionHead.unpacked(head.eval().packed())


def fit_with_held_out(texts: Encoded, fold: I64, full: bool, seed: int, progress: Progress) -> tuple[EmotionHead, I64, F64]:
    """Return the head, the texts to calibrate on, and their margins by a head that was not fitted on them.

    full: the encoder was fitted on all but the first fold, so that only that one is left to calibrate on, and the head leaves it out too.
    """
    if full:
        learn, rows = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
        head = fit(texts, learn, seed, lambda what, share: progress(f"fitting, {what}", 0.79 + 0.2 * share))
        return head, rows, margins(head, texts, rows)
    margin = held_out(texts, fold, seed, lambda what, share: progress(what, 0.79 + 0.16 * share))
    rows = np.arange(len(fold))
    return fit(texts, rows, seed, lambda what, share: progress(f"fitting, {what}", 0.95 + 0.04 * share)), rows, margin


def held_out(texts: Encoded, fold: I64, seed: int, progress: Progress) -> F64:
    """Return the margins float64 [texts, len(NAMES)] out of fold."""
    out = np.empty((len(fold), len(NAMES)))
    for number in range(FOLDS):
        begun = partial(_folded, progress, number)
        present = np.flatnonzero(fold == number)
        out[present] = margins(fit(texts, np.flatnonzero(fold != number), seed, begun), texts, present)
    return out


def _folded(progress: Progress, number: int, what: str, share: float) -> None:
    progress(f"fitting a fold, {what}", (number + share) / FOLDS)


def judge(
    head: EmotionHead, texts: Encoded, rows: I64, margin: F64, dev: Encoded | None, messages: Encoded, seed: int
) -> tuple[dict[str, Any], SupportHead, dict[str, Any]]:
    """Return the content of outputs.json, the line for frustration, and the metrics on `dev`, or on the texts `rows`.

    margin: held-out, of the texts `rows`; messages: the support messages of the package.
    """
    y = texts.y[rows].astype(np.float64)
    weights, intercepts = calibrated(margin, y)
    weights = np.round(weights, 5)  # as they are in the bundle
    log_odds = margin @ weights.T + intercepts
    fitted = fit_support(head, weights[-1], intercepts[-1], texts, rows, messages, seed)
    stated = probability(log_odds)
    limits = [threshold(stated[:, place], y[:, place]) for place in range(len(NAMES) - 1)] + [fitted.threshold]
    outputs = {
        name: {
            "weights": weights[place].tolist(),
            "intercept": float(intercepts[place]),
            "threshold": limits[place],
            "rate": float(y[:, place].mean()),
        }
        for place, name in enumerate(NAMES)
    }
    features = texts.features[rows] if dev is None else dev.features
    if dev is not None:
        log_odds = margins(head, dev, np.arange(len(dev.features))) @ weights.T + intercepts
        y = dev.y.astype(np.float64)
    return outputs, fitted.head, judged_figures(fitted, features, log_odds, y, np.array(limits))


def judged_figures(fitted: SupportFit, features: NDArray[np.floating], log_odds: F64, y: F64, limits: F64) -> dict[str, Any]:
    """Return the metrics of texts: features [texts, FEATURES], log_odds and y [texts, len(NAMES)], log_odds before the line."""
    served = log_odds.copy()
    served[:, -1] = [fitted.head.margin(row, value) for row, value in zip(features, log_odds[:, -1], strict=True)]
    aucs: dict[str, float | None] = {"general": None, "served": None}
    if 0 < y[:, -1].sum() < len(y):
        aucs = {"general": evaluate.auc(y[:, -1], log_odds[:, -1]), "served": evaluate.auc(y[:, -1], served[:, -1])}
    return {**figures(probability(served), y, limits), "frustration": {**fitted.figures, "generalAuc": aucs}}


def fit_support(head: EmotionHead, weights: F64, intercept: float, texts: Encoded, rows: I64, messages: Encoded, seed: int) -> SupportFit:
    """Return the line for frustration: weights, intercept: of its general calibration; rows: the texts that are the general ones."""
    few = rows[support.sample(len(rows))]
    own = margins(head, messages, np.arange(len(messages.features))) @ weights + intercept
    general = margins(head, texts, few) @ weights + intercept
    return support.fit(messages.features, own, texts.features[few], general, texts.y[few, -1].astype(np.float64), seed)


def support_messages() -> LabelledTexts:
    """Return the support messages of the package, without labels of emotions."""
    own = support.messages()
    return LabelledTexts(own.texts, np.zeros((len(own.texts), len(EMOTIONS)), np.float32))


def calibrated(margin: F64, y: F64) -> tuple[F64, F64]:
    """Return weights [outputs, margins] and intercepts [outputs] of the log-odds of y [texts, outputs] by logistic regression.

    On all margins, not on an output's own alone: emotions are correlated (Platt 1999, with more inputs).
    """
    from sklearn.linear_model import LogisticRegression

    weights, intercepts = np.zeros((y.shape[1], margin.shape[1])), np.empty(y.shape[1])
    for output in range(y.shape[1]):
        rate = (y[:, output].sum() + 0.5) / (len(y) + 1)
        intercepts[output] = np.log(rate / (1 - rate))
        if 0 < y[:, output].sum() < len(y):
            fitted = LogisticRegression(max_iter=1000).fit(margin / MARGIN_SCALE, y[:, output])
            weights[output], intercepts[output] = fitted.coef_[0] / MARGIN_SCALE, fitted.intercept_[0]
    return weights, intercepts


def figures(stated: F64, y: F64, limits: F64) -> dict[str, Any]:
    """Return F1 of the labels and of Ekman's groups, and calibration errors: stated, y [texts, len(NAMES)]; limits [len(NAMES)]."""
    present = (stated >= limits).astype(np.float64)
    labels, groups = slice(0, len(EMOTIONS)), slice(len(EMOTIONS), len(EMOTIONS) + len(EKMAN))
    of_labels = emotion_table.grouped(present[:, labels].astype(np.float32))[:, : len(EKMAN)].astype(np.float64)
    each = f1(present, y)
    eces = [evaluate.ece(y[:, place], stated[:, place]) for place in range(len(NAMES))]
    micro = 2 * (present * y)[:, labels].sum() / max(1.0, (present + y)[:, labels].sum())
    return {
        "macroF1": float(each[labels].mean()),
        "microF1": float(micro),
        "ekmanMacroF1": float(each[groups].mean()),
        "ekmanOfLabelsMacroF1": float(f1(of_labels, y[:, groups]).mean()),
        "ece": float(np.mean(eces)),
        "outputs": [
            {"name": name, "f1": float(each[place]), "ece": eces[place], "texts": int(y[:, place].sum())}
            for place, name in enumerate(NAMES)
        ],
    }


def f1(present: F64, y: F64) -> F64:
    """Return F1 of each column of `present` [texts, columns] against y, 0 where neither has any."""
    return np.asarray(2 * (present * y).sum(axis=0) / np.maximum(1.0, (present + y).sum(axis=0)))


def threshold(stated: F64, y: F64) -> float:
    """Return the probability above which F1 is best, smoothed over neighbours in the order of scores."""
    order = np.argsort(-stated, kind="stable")
    right = np.cumsum(y[order])
    score = 2 * right / (np.arange(1, len(y) + 1) + max(1.0, y.sum()))
    half = SMOOTHED // 2
    smooth = np.convolve(np.pad(score, half, mode="edge"), np.ones(SMOOTHED) / SMOOTHED, "valid")
    return float(stated[order[int(smooth.argmax())]])


def margins(head: EmotionHead, texts: Encoded, rows: I64) -> F64:
    """Return the head's margins float64 [rows, len(NAMES)]."""
    with torch.inference_mode():
        parts = [_margins(head, texts, part).numpy() for part in np.array_split(rows, -(-len(rows) // 4096))]
    return np.concatenate(parts).astype(np.float64)


def _margins(head: EmotionHead, texts: Encoded, rows: I64) -> torch.Tensor:
    offsets = texts.pieces.offsets
    sizes = offsets[rows + 1] - offsets[rows]
    begins = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum())) + np.repeat(offsets[rows] - begins, sizes)
    features = torch.from_numpy(texts.features[rows].astype(np.float32))
    out: torch.Tensor = head(features, torch.from_numpy(texts.pieces.ids[places]), torch.from_numpy(begins))
    return out


def _known(given: Pieces, learn: I64) -> list[int]:
    """Return the word pieces that are in enough of the texts `learn`."""
    text = np.repeat(np.arange(len(given.offsets) - 1), np.diff(given.offsets))
    pairs = np.unique(np.stack([text, given.ids])[:, np.isin(text, learn)], axis=1)
    return np.flatnonzero(np.bincount(pairs[1], minlength=minilm.WORDS) >= MIN_PIECE_TEXTS).tolist()
