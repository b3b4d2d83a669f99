"""Networks that were fitted before training was ended: beside the bundle that is being made, for the next run to go on from.

A checkpoint is of the same sessions, seed and code or it is none; it goes once the bundle is there.
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
    """The folder OUT.checkpoint. what: everything that decides what is fitted."""

    def __init__(self, out: Path, what: Sequence[bytes]) -> None:
        self._folder = out.with_name(f"{out.name}.checkpoint")
        self._key = hashlib.sha256(b"\0".join(what)).hexdigest()
        marker = self._folder / KEY
        if not marker.is_file() or marker.read_text() != self._key:
            shutil.rmtree(self._folder, ignore_errors=True)

    def find(self, number: int) -> tuple[Network, Curve] | None:
        """Return the network of a fold with its curve, None where it has not been fitted yet."""
        from safetensors.numpy import load

        weights, curve = self._files(number)
        if not weights.is_file() or not curve.is_file():
            return None
        return unpacked(load(weights.read_bytes()))[0], json.loads(curve.read_bytes())[CURVE]

    def keep(self, number: int, network: Network, curve: Curve) -> None:
        """Keep a network: its curve last, so that what is there is whole."""
        from safetensors.numpy import save

        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / KEY).write_text(self._key)
        weights, told = self._files(number)
        for path, content in ((weights, save(packed([network]))), (told, bundles.encoded({CURVE: curve}))):
            part = path.with_suffix(".part")
            part.write_bytes(content)
            part.replace(path)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self, number: int) -> tuple[Path, Path]:
        return self._folder / f"{number}.safetensors", self._folder / f"{number}-{CURVE}.json"


def what(*arrays: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> list[bytes]:
    """Return the bytes of arrays, with their shapes."""
    return [part for array in arrays for part in (repr(array.shape).encode(), np.ascontiguousarray(array).tobytes())]
