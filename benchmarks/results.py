"""Where results lie, and how one is written: as JSON with machine, commit, date, versions and the command that made it."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine

FOLDER = Path(__file__).parent / "results"


def read(name: str) -> dict[str, Any] | None:
    """Return a result, None while there is none."""
    file = FOLDER / f"{name}.json"
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
    return found


def conclude(name: str, found: dict[str, Any], *, write: bool) -> None:
    """Write a result, or, where it is none to keep, print it."""
    arguments = "".join(f" {shlex.quote(argument)}" for argument in sys.argv[1:])
    whole = {**machine.describe(), "command": f"python -m benchmarks.{name}{arguments}", **found}
    text = json.dumps(whole, indent=1) + "\n"
    if write:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.json").write_text(text)
        print(f"wrote benchmarks/results/{name}.json", file=sys.stderr)
    else:
        print(text, end="")
