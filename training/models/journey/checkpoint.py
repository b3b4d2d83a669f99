"""Checkpoints of the fitted networks beside the output bundle, from which an interrupted training resumes.

A checkpoint of other sessions, another seed or other code is discarded; it is removed once the bundle is written.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kernels.networks.gru import Network
from training.models.journey.model import packed, unpacked
from training.registry import bundle as bundles

KEY, CURVE = "key", "curve"

Curve = list[dict[str, float]]


class Checkpoint:
    """The folder OUT.checkpoint. inputs: the bytes of everything that the fitted networks depend on."""

    def __init__(self, out: Path, inputs: Sequence[bytes]) -> None:
        self._folder = out.with_name(f"{out.name}.checkpoint")
        self._key = hashlib.sha256(b"\0".join(inputs)).hexdigest()
        marker = self._folder / KEY
        if not marker.is_file() or marker.read_text() != self._key:
            shutil.rmtree(self._folder, ignore_errors=True)

    def find(self, number: int) -> tuple[Network, Curve] | None:
        """Return the network of a fold with its curve, None where it has not been fitted."""
        from safetensors.numpy import load

        weights, curve = self._files(number)
        if not weights.is_file() or not curve.is_file():
            return None
        return unpacked(load(weights.read_bytes()))[0], json.loads(curve.read_bytes())[CURVE]

    def save(self, number: int, network: Network, curve: Curve) -> None:
        """Store a network, then its curve, so that a stored curve implies a complete network."""
        from safetensors.numpy import save as encode

        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / KEY).write_text(self._key)
        weights, curve_file = self._files(number)
        for path, content in ((weights, encode(packed([network]))), (curve_file, bundles.encoded({CURVE: curve}))):
            part = path.with_suffix(".part")
            part.write_bytes(content)
            part.replace(path)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self, number: int) -> tuple[Path, Path]:
        return self._folder / f"{number}.safetensors", self._folder / f"{number}-{CURVE}.json"


def array_bytes(*arrays: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> list[bytes]:
    """Return the shapes and contents of arrays as bytes."""
    return [part for array in arrays for part in (repr(array.shape).encode(), np.ascontiguousarray(array).tobytes())]
