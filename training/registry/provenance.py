"""Provenance of a model: the hash of its training table, whether that was simulated, and the versions of the software that made it."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from training.datasets.shop.mark import is_simulated
from training.registry.simulated import SHA256, SIMULATED
from training.tables import frames


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the table's files, in the order of reading, as hexadecimal text."""
    digest = hashlib.sha256()
    for file in frames.files(path):
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def origin(path: Path) -> dict[str, Any]:
    """Return the fields of a manifest's `trainingData` that state where a table is from: its SHA-256, and whether it was simulated."""
    return {SHA256: fingerprint(path), SIMULATED: is_simulated(path)}


def software(*names: str) -> dict[str, str]:
    """Return the versions of Python and of the distributions that provide these packages."""
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    """Return the version of the distribution that provides a package, "not installed" without one."""
    providers = metadata.packages_distributions().get(name, [name])
    try:
        return metadata.version(providers[0])
    except metadata.PackageNotFoundError:
        return "not installed"
