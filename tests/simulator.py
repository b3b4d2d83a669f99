"""Numba's CUDA simulator, which must be chosen before Numba is imported: a program of its own for each use."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE_S = 300


def simulate(program: str, *arguments: object) -> None:
    """Run a program, which finds the arguments in sys.argv[1:], where CUDA is simulated; its warnings are errors, and its errors ours."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
