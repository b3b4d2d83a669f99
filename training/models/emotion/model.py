"""The emotion model: MiniLM as it is published, in whole numbers, and a small head over all of its layers, in a bundle without pickles.

head.safetensors  the head's weights, most of them int8 with a scale each row
ranges.safetensors  what comes into each of the encoder's linear maps (`int8`)
encoder.safetensors  its weights in float16, where it was fine-tuned (`emotion_full`); else they are the package's
outputs.json      of every emotion and group: its log-odds as a sum of all margins, the threshold, and how often it was there
metrics.json      how well that does on texts it never saw (`emotion_training`)
card.md           the same for people

The head sees, of a text, the mean of its word pieces after each layer and before the first, and beside them the pieces themselves: what a
word says by itself is lost in a sentence's vector. Only texts of as many pieces each are encoded together, in one thread, and the head sees
one after the other, so that a text has the same numbers in every batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.types import F64, Bool
from training.models.emotion import encoder as minilm
from training.models.emotion import quantized
from training.models.emotion.encoder import LAYERS, WIDTH, Encoder, Pieces
from training.models.emotion.quantized import Range
from training.models.shared import boosted
from training.models.shared.calibration import probability
from training.registry.bundle import Bundle
from training.tables.texts import EKMAN, EMOTIONS, NEUTRAL

TASK = "emotion"
HEAD, RANGES, OUTPUTS, METRICS, CARD = "head.safetensors", "ranges.safetensors", "outputs.json", "metrics.json", "card.md"
ENCODER = "encoder.safetensors"
NAMES: tuple[str, ...] = (*EMOTIONS, *(f"ekman:{name}" for name in EKMAN), "frustration")
SEEN = (LAYERS + 4) * WIDTH  # numbers that the head sees of a text: LAYERS + 1 means, two maxima, the first piece's
HIDDEN = 160
GROUP = 32  # texts encoded at once: more are no faster
MAX_LETTERS = 8192  # of a text: what is beyond is beyond LONGEST pieces, but for texts of blanks


class Scores(NamedTuple):
    """probability: float64 [texts, len(NAMES)], calibrated; present: bool, whether it is above its threshold; cut, empty: bool [texts]."""

    probability: F64
    present: Bool
    cut: Bool
    empty: Bool


class Head(nn.Module):
    """What is learned: a hidden layer over the encoder's numbers, and a number of each known word piece for each output."""

    known: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, known: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("known", torch.tensor(known, dtype=torch.int64))  # word pieces
        self.register_buffer("mean", torch.zeros(SEEN))
        self.register_buffer("scale", torch.ones(SEEN))
        self.hidden = nn.Linear(SEEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, len(NAMES))
        self.bag = nn.Parameter(torch.zeros(len(known) + 1, len(NAMES)))  # the last: of all others
        self.dropout = dropout
        place = torch.full((minilm.WORDS,), len(known))
        place[self.known] = torch.arange(len(known))
        self.place = place

    def forward(self, seen: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
        """Return margins [texts, len(NAMES)]; seen: [texts, SEEN]; ids: [pieces] of all texts, those of text i from offsets[i] on."""
        x = nn.functional.dropout((seen - self.mean) / self.scale, self.dropout, self.training)
        x = nn.functional.dropout(nn.functional.gelu(self.hidden(x)), 0.5 if self.training else 0.0)
        words = nn.functional.embedding_bag(self.place[ids], self.bag, offsets, mode="sum")
        out: Tensor = self.out(x) + words
        return out

    def packed(self) -> dict[str, Tensor]:
        """Return the weights as the bundle has them."""
        whole = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        packed = {name: whole.pop(name) for name in _PACKED}
        return {**whole, **{key: part for name, tensor in packed.items() for key, part in _int8(name, tensor).items()}}

    @classmethod
    def unpacked(cls, content: dict[str, Tensor]) -> "Head":
        """Return the head whose weights `packed` returned. Raises KeyError, ValueError or RuntimeError where they do not fit."""
        head = cls(content["known"].tolist())
        whole = {name: tensor for name, tensor in content.items() if "." not in name or name.split(".")[-1] in ("weight", "bias")}
        for name in _PACKED:
            whole[name] = content[f"{name}.int8"].float() * content[f"{name}.step"]
        head.load_state_dict(whole)
        return head.eval()


_PACKED = ("hidden.weight", "bag")


def _int8(name: str, tensor: Tensor) -> dict[str, Tensor]:
    step = tensor.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    return {f"{name}.int8": (tensor / step).round().to(torch.int8), f"{name}.step": step}


class EmotionModel:
    """A loaded emotion model. Row i of an answer depends on text i alone, bit for bit."""

    def __init__(self, encoder: Encoder, head: Head, outputs: Mapping[str, Mapping[str, Any]], version: str) -> None:
        self.version = version
        self._encoder, self._head, self._device = encoder, head, encoder.kind.device
        said = [outputs[name] for name in NAMES]
        self._weights, self._intercept, self.threshold, self._rate = (
            np.array([one[key] for one in said], np.float64) for key in ("weights", "intercept", "threshold", "rate")
        )
        if self._weights.shape != (len(NAMES), len(NAMES)):
            raise ValueError(f"an output is a sum of {len(NAMES)} margins, not of {self._weights.shape[1:]}")

    @classmethod
    def load(cls, bundle: Bundle, device: str = "cpu") -> "EmotionModel":
        """Return the model in a verified bundle, its encoder on the device, or on the CPU where torch was built without it.

        Raises BundleError when it is another task's, or is not whole.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        bundle.require(TASK)
        torch.set_num_threads(1)  # sums of several threads differ in their last bits
        try:
            head = Head.unpacked(load(bundle.read(HEAD)))
            own = load(bundle.read(ENCODER)) if ENCODER in bundle.manifest["files"] else None
            encoder = minilm.whole_numbers(minilm.encoder(own), ranges(bundle), device if torch.cuda.is_available() else "cpu")
            return cls(encoder, head, bundle.json(OUTPUTS), bundle.version)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise boosted.unloadable(bundle, error) from error

    def score(self, texts: Sequence[str]) -> Scores:
        """Return what is in texts. A text without a word piece has the shares of the training texts, and is neutral."""
        given = pieces(texts)
        margin = np.empty((len(texts), len(NAMES)))
        with torch.inference_mode():
            for group in minilm.alike(given.offsets, GROUP):
                ids = torch.from_numpy(given.rows(group))
                for text, row, its in zip(group, seen(self._encoder, ids.to(self._device)).cpu(), ids, strict=True):
                    own = self._head(row[None], its, _FIRST)[0].numpy()
                    margin[text] = self._weights @ own.astype(np.float64) + self._intercept
        p = probability(margin)
        empty = np.diff(given.offsets) <= 2
        p[empty] = self._rate
        present = p >= self.threshold
        present[empty] = [name == NEUTRAL for name in NAMES]
        return Scores(p, present, given.cut, empty)


def ranges(bundle: Bundle) -> dict[str, Range]:
    """Return what comes into the encoder's linear maps. Raises SafetensorError or KeyError for a bundle that is not whole."""
    from safetensors.torch import load

    return quantized.unpacked(load(bundle.read(RANGES)))


_FIRST = torch.zeros(1, dtype=torch.int64)


def pieces(texts: Sequence[str]) -> Pieces:
    """Return the word pieces of texts of any length."""
    found = minilm.pieces([text[:MAX_LETTERS] for text in texts])
    return found._replace(cut=found.cut | np.array([len(text) > MAX_LETTERS for text in texts], bool))


def seen(encoder: Encoder, ids: Tensor) -> Tensor:
    """Return what the head sees of texts of as many pieces each: float32 [texts, SEEN] of ids int64 [texts, pieces]."""
    states = encoder.states(ids)
    return torch.cat([*(state.mean(1) for state in states), states[-1].amax(1), states[-1][:, 0], states[-2].amax(1)], 1)
