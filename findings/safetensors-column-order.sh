#!/usr/bin/env bash
# safetensors: a matrix from Polars or pandas comes back with its values in other places.
#
# Guess     `safetensors.numpy.save` writes an array's values in the order of its shape, whatever its order in memory, as `numpy.save` does
#           and as safetensors did up to 0.7; if not, it raises, as `safetensors.torch.save` does for a tensor that is not contiguous.
# Behaviour Since 0.8.0 the bytes are taken from the array's address as they are in memory. A matrix in column order (Fortran order) is
#           written with the shape of rows and the bytes of columns: it loads with the right name, shape and dtype and the wrong values.
#           `DataFrame.to_numpy()` of Polars and of pandas and a transposed array give that order.
# Versions  safetensors 0.8.0, numpy 2.4.6, polars 2.1.0, pandas 3.1.1. The script also runs safetensors 0.7.0, which is right. Seen on
#           2026-12-01; reported as issue 825 of safetensors/safetensors (August 2026, open then). The docstring says "contiguous and
#           dense"; column order is both.
# Matters   Weights, scaling and embeddings are saved once and loaded for months. Names, shapes, dtypes and the file's digest are right, and
#           the scores are wrong. Call `numpy.ascontiguousarray` before saving, and compare what was loaded with what was saved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 polars==2.1.0 pandas==3.1.1
"$folder/venv/bin/pip" install -qq --disable-pip-version-check --no-deps --target "$folder/before" safetensors==0.7.0
cat >"$folder/save.py" <<'PYTHON'
import sys

import numpy as np
import pandas as pd
import polars as pl
import safetensors
from safetensors.numpy import load, save

moved = sys.argv[1] == "moved"
print("safetensors", safetensors.__version__, "numpy", np.__version__)
columns = {"mean": [1.0, 2.0, 3.0], "deviation": [10.0, 20.0, 30.0]}
rows = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
MATRICES = {
    "Polars": pl.DataFrame(columns).to_numpy(),
    "pandas": pd.DataFrame(columns).to_numpy(),
    "transposed": np.array(list(columns.values())).T,
}
for name, matrix in MATRICES.items():
    loaded = load(save({"scaling": matrix}))["scaling"]
    print(f"  {name}: saved {matrix.tolist()} loaded {loaded.tolist()}")
    assert np.array_equal(matrix, rows) and loaded.shape == rows.shape and loaded.dtype == rows.dtype
    assert loaded.tolist() == ([[1.0, 2.0], [3.0, 10.0], [20.0, 30.0]] if moved else rows.tolist()), f"{name}: other values than before"
copied = load(save({"scaling": np.ascontiguousarray(MATRICES["Polars"])}))["scaling"]
assert np.array_equal(copied, rows), "a copy in row order is no longer right"
PYTHON
"$folder/venv/bin/python" "$folder/save.py" moved
PYTHONPATH="$folder/before" "$folder/venv/bin/python" "$folder/save.py" right
