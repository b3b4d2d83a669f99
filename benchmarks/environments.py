"""Makes the environments of what is measured beside us and needs its own, with pinned versions.

    python -m benchmarks.environments                  make all that are not there, and print how long each took
    python -m benchmarks.environments --pin triton     install the newest versions anew and write them to constraints-triton.txt

Each is a virtual environment in .revenue-engine/bench/<name> (or in the folder that BENCH_ENVIRONMENTS names), made once, and again only
when the requirements, the pinned versions or the Python have changed.
"""

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
FOLDER = Path(os.environ.get("BENCH_ENVIRONMENTS", ROOT / ".revenue-engine" / "bench"))
INSTALL_S = 600.0

_failures: dict[Path, str] = {}  # of this process, which need not try the same again


class NotInstalledError(RuntimeError):
    """An environment could not be made; the message ends with the last line that pip printed."""


def python(name: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path:
    """Return the Python of a peer's environment, made if it is not there yet. Raises NotInstalledError."""
    if not requirements:
        return Path(sys.executable)
    home = folder / name
    marker, wanted = home / "installed", _wanted(home, requirements)
    if not marker.is_file() or marker.read_text() != wanted:
        if home in _failures:
            raise NotInstalledError(_failures[home])
        _install(home, [*requirements, "--constraint", str(_constraints(name))])
        marker.write_text(wanted)
    return home / "bin" / "python"


def pin(name: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path:
    """Make the environment with the newest versions that fit each other, and return the file that they were written to."""
    home = folder / name
    _install(home, requirements)
    _constraints(name).write_text("\n".join(public(_pip(home, "freeze").stdout.splitlines())) + "\n")
    (home / "installed").write_text(_wanted(home, requirements))
    return _constraints(name)


def public(frozen: Iterable[str]) -> list[str]:
    """Return the output of `pip freeze` as name==version, for any index: without local versions (+cpu) and what came from an address."""
    return sorted((found[0] for line in frozen if (found := re.match(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line))), key=str.lower)


def requirements_of() -> dict[str, tuple[str, ...]]:
    """Return the requirements of everything that has an environment of its own: peers, the baselines of the kernels, and lifetimes."""
    modules = {file.stem: importlib.import_module(f"benchmarks.peers.{file.stem}") for file in sorted(PEERS.glob("*.py"))}
    modules |= {
        "baselines": importlib.import_module("benchmarks.baselines"),
        "lifetimes": importlib.import_module("benchmarks.value_rates"),
    }
    return {name: module.REQUIREMENTS for name, module in modules.items() if module.REQUIREMENTS}


def _install(home: Path, arguments: Sequence[str]) -> None:
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    try:
        done = _pip(home, "install", *arguments)
        output = (done.stderr or done.stdout).strip().splitlines() if done.returncode else []
        fault = next((line for line in reversed(output) if line.startswith("ERROR")), output[-1] if output else "")
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed, fault = True, f"pip was not done after {INSTALL_S:.0f} s"
    if failed:
        _failures[home] = f"{home.name} could not be installed: {fault}"
        raise NotInstalledError(_failures[home])


def _pip(home: Path, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run this environment's pip on another one, which then needs none of its own."""
    run = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), command, "--quiet", "--disable-pip-version-check"]
    run += ["--no-compile"] if command == "install" else []
    return subprocess.run([*run, *arguments], capture_output=True, text=True, check=False, timeout=INSTALL_S)


def _wanted(home: Path, requirements: Sequence[str]) -> str:
    file = _constraints(home.name)
    return "\n".join([sys.version, str(home), *requirements, file.read_text() if file.is_file() else ""])


def _constraints(name: str) -> Path:
    return PEERS / f"constraints-{name}.txt"


def main() -> None:
    """Make the environments, or pin the versions of some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    wanted = requirements_of()
    parser.add_argument("--pin", nargs="+", choices=wanted, default=[], metavar="NAME", help="write constraints-NAME.txt anew")
    pinned = parser.parse_args().pin
    for name, requirements in wanted.items():
        began = time.monotonic()
        try:
            made = pin(name, requirements) if name in pinned else python(name, requirements)
        except NotInstalledError as error:
            print(error)
        else:
            print(f"{name}: {made}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
