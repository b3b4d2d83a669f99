"""How good the purchase model is on real sessions: `python -m benchmarks.purchase_model [--data FILE]`, from the project's root.

Runs `revenue-engine train purchase` on the published table (UCI 468) and writes its metrics.json, with machine and date, into
benchmarks/results/purchase_model.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine

RESULT = Path(__file__).parent / "results" / "purchase_model.json"
TABLE = "online_shoppers/online_shoppers_intention.csv"


def main() -> None:
    """Train, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=machine.DATA / TABLE)
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "serving.cli", "train", "purchase", "--data", data, "--out", out], check=True)
        figures = {"seconds": round(time.monotonic() - began, 1), "metrics": json.loads((out / "metrics.json").read_text())}
    command = f"revenue-engine train purchase --data {data.name} --out model"
    RESULT.write_text(json.dumps({**machine.describe(), "command": command, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
