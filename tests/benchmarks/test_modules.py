"""Every benchmark can be imported, so that one that is rarely run does not lag behind the code that it measures."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_benchmark_can_be_imported():
    names = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
    assert len(names) > 20
    # In a process of its own: libraries that only benchmarks import warn while they are imported.
    program = f"import importlib; [importlib.import_module('benchmarks.' + name) for name in {names!r}]"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
