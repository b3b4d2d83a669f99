"""Where and of what a measurement was made: the machine, the commit, the versions."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("REVENUE_ENGINE_DATA", ROOT.parent / "shared" / "data"))  # public data sets, a folder each
PACKAGES = ("ray", "xgboost-cpu", "xgboost", "numpy", "numba", "msgspec", "fastapi", "uvicorn", "uvloop", "httptools")


def describe() -> dict[str, Any]:
    """Return the provenance of every result: date (UTC), commit, machine and versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> dict[str, Any]:
    """Return the processor's name, how many cores this process may use, the memory in GiB and the system."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memoryGiB": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }


def commit() -> str:
    """Return the commit of the working tree, with "-dirty" when files differ from it; "unknown" outside a repository."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, those that are installed."""
    return {"python": platform.python_version(), **{name: version for name in PACKAGES if (version := _version(name))}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
