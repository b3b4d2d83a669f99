#!/usr/bin/env bash
# narwhals: a sample of a pyarrow table is drawn from its first n rows only.
#
# Guess     `sample(n=1_000, seed=1)` draws 1,000 rows from the whole table, and each row is equally likely, whichever library holds the
#           table. Only the draw itself differs between libraries.
# Behaviour For pyarrow the positions are drawn from `arange(n)` instead of `arange(rows)`. Without replacement the "sample" is the first n
#           rows in another order, the same rows for each seed; with replacement it is drawn from those n rows. Series and DataFrame, `n`
#           and `fraction` alike. pandas and Polars draw from all rows.
# Versions  narwhals 2.29.0 with pyarrow 26.0.1 (and polars 2.1.0 and pandas 3.1.1 for comparison). Seen on 2026-12-01. Since narwhals
#           2.23.0: the script also runs 2.22.1, which draws from all rows.
# Matters   Tables are nearly always in an order: by time, by customer, by label. A sample for training, for calibration or for a drift
#           check then holds the oldest rows or one label only, and no count, type or error differs from a right one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check narwhals==2.29.0 pyarrow==26.0.1 polars==2.1.0 pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/pip" install -qq --disable-pip-version-check --no-deps --target "$folder/before" narwhals==2.22.1
cat >"$folder/sample.py" <<'PYTHON'
import sys

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa

ROWS, DRAWN = 10_000, 1_000
first_only = sys.argv[1] == "first-only"
# the table is in the order of time, and the last tenth of the customers has churned
columns = {"day": list(range(ROWS)), "churned": [day >= ROWS - DRAWN for day in range(ROWS)]}
print("narwhals", nw.__version__, "pyarrow", pa.__version__)
for native in (pa.table(columns), pl.DataFrame(columns), pd.DataFrame(columns)):
    arrow, name = isinstance(native, pa.Table), type(native).__module__.partition(".")[0]
    frame = nw.from_native(native, eager_only=True)
    for seed in (1, 2):
        by_count = frame.sample(n=DRAWN, seed=seed)
        by_fraction = frame.sample(fraction=0.1, seed=seed)
        repeated = frame["day"].sample(n=DRAWN, seed=seed, with_replacement=True)
        latest = [int(sample.max()) for sample in (by_count["day"], by_fraction["day"], repeated)]
        print(f"  {name} seed {seed}: latest day drawn {latest} of {ROWS - 1}, churned {by_count['churned'].mean():.3f} of 0.100")
        if arrow and first_only:
            assert sorted(by_count["day"].to_list()) == list(range(DRAWN)), "the sample is no longer the first n rows"
            assert sorted(by_fraction["day"].to_list()) == list(range(DRAWN)), "the sample by fraction is no longer the first n rows"
            assert latest[2] < DRAWN, "the sample with replacement is no longer drawn from the first n rows"
        else:
            assert min(latest) > ROWS - DRAWN, f"{name} no longer draws from all rows"
PYTHON
"$folder/venv/bin/python" "$folder/sample.py" first-only
PYTHONPATH="$folder/before" "$folder/venv/bin/python" "$folder/sample.py" all-rows
