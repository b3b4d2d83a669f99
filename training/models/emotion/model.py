"""The emotion model: the quantized MiniLM encoder and a small head over all of its layers, in a bundle without pickles.

head.safetensors     the head's weights, most of them int8 with a scale per row
ranges.safetensors   the input ranges of the encoder's linear maps (`quantized`)
encoder.safetensors  the encoder's weights in float16, where it was fine-tuned (`finetune`); else the package's weights are used
support.safetensors  the line that calibrates frustration on support messages (`support`); absent: the general calibration
outputs.json         for every emotion and group: its log-odds as a sum of all margins, the threshold, and the base rate
metrics.json         metrics on held-out texts (`train`)
card.md              the model card

The inputs of the head are the mean states of a text before the first layer and after each, and its word pieces, because the mean of a
sentence loses the meaning of single words. Only texts of equal length are encoded together, in one thread, and the head processes one text
at a time, so that a text has the same scores in every batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kernels.types import F64, Bool
from training.models.emotion import encoder as minilm
from training.models.emotion import language, quantized
from training.models.emotion.encoder import LAYERS, WIDTH, Encoder, Pieces
from training.models.emotion.quantized import InputRange
from training.models.emotion.support import SupportHead
from training.models.shared import boosted
from training.models.shared.calibration import probability
from training.registry.bundle import Bundle
from training.tables.texts import EKMAN, EMOTIONS, NEUTRAL

TASK = "emotion"
HEAD, RANGES, OUTPUTS, METRICS, CARD = "head.safetensors", "ranges.safetensors", "outputs.json", "metrics.json", "card.md"
ENCODER, SUPPORT = "encoder.safetensors", "support.safetensors"
NAMES: tuple[str, ...] = (*EMOTIONS, *(f"ekman:{name}" for name in EKMAN), "frustration")
FEATURES = (LAYERS + 4) * WIDTH  # inputs of the head: LAYERS + 1 means, two maxima, the state of the first piece
HIDDEN = 160
GROUP = 32  # texts encoded at once: larger groups are not faster
MAX_LETTERS = 8192  # of a text: later ones are beyond MAX_PIECES pieces, except in texts of blanks


class EmotionScores(NamedTuple):
    """probability: float64 [texts, len(NAMES)], calibrated; present: bool, whether it is above its threshold.

    bool [texts]: cut, longer than what is read; empty, without a word piece; unreadable, without a known word; foreign, not in English.
    """

    probability: F64
    present: Bool
    cut: Bool
    empty: Bool
    unreadable: Bool
    foreign: Bool


class EmotionHead(nn.Module):
    """The trained head: a hidden layer over the encoder's states, and a weight per known word piece and output."""

    known: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, known: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("known", torch.tensor(known, dtype=torch.int64))  # word pieces
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.hidden = nn.Linear(FEATURES, HIDDEN)
        self.out = nn.Linear(HIDDEN, len(NAMES))
        self.bag = nn.Parameter(torch.zeros(len(known) + 1, len(NAMES)))  # the last row: all other pieces
        self.dropout = dropout
        place = torch.full((minilm.WORDS,), len(known))
        place[self.known] = torch.arange(len(known))
        self.place = place

    def forward(self, features: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
        """Return margins [texts, len(NAMES)]; features: [texts, FEATURES]; ids: [pieces], those of text i start at offsets[i]."""
        x = nn.functional.dropout((features - self.mean) / self.scale, self.dropout, self.training)
        x = nn.functional.dropout(nn.functional.gelu(self.hidden(x)), 0.5 if self.training else 0.0)
        words = nn.functional.embedding_bag(self.place[ids], self.bag, offsets, mode="sum")
        out: Tensor = self.out(x) + words
        return out

    def packed(self) -> dict[str, Tensor]:
        """Return the weights in the format of the bundle."""
        whole = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        packed = {name: whole.pop(name) for name in _PACKED}
        return {**whole, **{key: part for name, tensor in packed.items() for key, part in _int8(name, tensor).items()}}

    @classmethod
    def unpacked(cls, content: dict[str, Tensor]) -> "EmotionHead":
        """Return the head with the weights that `packed` returned. Raises KeyError, ValueError or RuntimeError for invalid ones."""
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
    """A loaded emotion model. Row i of its scores depends on text i alone, bit for bit."""

    def __init__(
        self,
        encoder: Encoder,
        head: EmotionHead,
        outputs: Mapping[str, Mapping[str, Any]],
        version: str,
        support: SupportHead | None = None,
    ) -> None:
        self.version, self._support = version, support
        self._encoder, self._head, self._device = encoder, head, encoder.kind.device
        ordered = [outputs[name] for name in NAMES]
        self._weights, self._intercept, self.threshold, self._rate = (
            np.array([one[key] for one in ordered], np.float64) for key in ("weights", "intercept", "threshold", "rate")
        )
        if self._weights.shape != (len(NAMES), len(NAMES)):
            raise ValueError(f"the calibration has the shape {self._weights.shape}; {len(NAMES)} outputs and margins are needed")

    @classmethod
    def load(cls, bundle: Bundle, device: str = "cpu") -> "EmotionModel":
        """Return the model in a verified bundle, its encoder on the device, or on the CPU where torch has no CUDA.

        Raises BundleError when the bundle belongs to another task or is incomplete.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        bundle.require(TASK)
        torch.set_num_threads(1)  # sums over several threads differ in their last bits
        try:
            head = EmotionHead.unpacked(load(bundle.read(HEAD)))
            weights = load(bundle.read(ENCODER)) if ENCODER in bundle.manifest["files"] else None
            encoder = minilm.quantize(minilm.encoder(weights), ranges(bundle), device if torch.cuda.is_available() else "cpu")
            support = SupportHead.unpacked(load(bundle.read(SUPPORT))) if SUPPORT in bundle.manifest["files"] else None
            language.identifier()
            return cls(encoder, head, bundle.json(OUTPUTS), bundle.version, support)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise boosted.unloadable(bundle, error) from error

    @property
    def frustration_threshold(self) -> float:
        """Return the probability from which a text counts as frustrated."""
        return float(self.threshold[-1])

    def score(self, texts: Sequence[str]) -> EmotionScores:
        """Return the scores of texts. A text without a known word gets the base rates of the training texts, and is neutral."""
        given = pieces(texts)
        margin = np.empty((len(texts), len(NAMES)))
        with torch.inference_mode():
            for group in minilm.equal_length_groups(given.offsets, GROUP):
                ids = torch.from_numpy(given.rows(group))
                for text, row, text_ids in zip(group, features(self._encoder, ids.to(self._device)).cpu(), ids, strict=True):
                    margins = self._head(row[None], text_ids, _FIRST)[0].numpy()
                    margin[text] = self._weights @ margins.astype(np.float64) + self._intercept
                    if self._support is not None:
                        margin[text, -1] = self._support.margin(row.numpy(), margin[text, -1])
        p = probability(margin)
        empty, unreadable = np.diff(given.offsets) <= 2, unknown(given)
        unread = empty | unreadable
        p[unread] = self._rate
        present = p >= self.threshold
        present[unread] = [name == NEUTRAL for name in NAMES]
        return EmotionScores(p, present, given.cut, empty, unreadable, language.foreign(texts, given))


def ranges(bundle: Bundle) -> dict[str, InputRange]:
    """Return the input ranges of the encoder's linear maps. Raises SafetensorError or KeyError for an incomplete bundle."""
    from safetensors.torch import load

    return quantized.unpacked(load(bundle.read(RANGES)))


_FIRST = torch.zeros(1, dtype=torch.int64)


def pieces(texts: Sequence[str]) -> Pieces:
    """Return the word pieces of texts of any length."""
    found = minilm.pieces([text[:MAX_LETTERS] for text in texts])
    return found._replace(cut=found.cut | np.array([len(text) > MAX_LETTERS for text in texts], bool))


def unknown(given: Pieces) -> Bool:
    """Return whether each text has unknown words and, beside punctuation and symbols, no known one, bool [texts]."""
    begins = given.offsets[:-1]
    known = np.add.reduceat(minilm.spelled()[given.ids], begins)
    return np.asarray((known == 0) & (np.add.reduceat(given.ids == minilm.UNK, begins) > 0))


def features(encoder: Encoder, ids: Tensor) -> Tensor:
    """Return the inputs of the head for texts of equal length, float32 [texts, FEATURES]; ids: int64 [texts, pieces]."""
    states = encoder.states(ids)
    return torch.cat([*(state.mean(1) for state in states), states[-1].amax(1), states[-1][:, 0], states[-2].amax(1)], 1)
