#!/usr/bin/env bash
# Ray Data: `/`, `//` and `%` of two integer columns give other numbers and types for Arrow blocks than for pandas blocks.
#
# Guess     An expression is Python: `col("orders") / col("visits")` is true division and gives 0.25 for 1 and 4, `//` rounds down and `%`
#           has the sign of the divisor. The format of a block is a detail of storage.
# Behaviour Arrow blocks (from_arrow, from_items, read_parquet): `/` is pyarrow's `divide`, which cuts towards zero and stays int64, so each
#           rate below 1 is 0. `//` is the floor of that integer, so -7 // 2 is -3.0, and `%` follows from it: -7 % 2 is -1.0; both are
#           float64. pandas blocks (from_pandas): 0.25, -4 and 1, as in Python, with the types the other way round. No error, no warning.
# Versions  ray 2.60.0, pyarrow 26.0.1, pandas 3.1.1, numpy 2.4.6. Seen on 2026-12-01. The operators' docstring is "Division operation (/)"
#           and "Floor division operation (//)".
# Matters   Conversion rates, shares and average baskets from counts become 0 or lose their cents when a batch job computes them as an
#           expression. Training data from pandas and scoring data from Parquet give features that differ. Filters are affected too: orders
#           / visits >= 0.5 drops a rate of 0.75. Cast one side to float first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check "ray[data]==2.60.0" pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
export RAY_USAGE_STATS_ENABLED=0 FOLDER="$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import os

import pyarrow as pa
import pyarrow.parquet as pq
import ray

settings = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20, "logging_level": "ERROR"}
ray.init(_temp_dir=os.path.join(os.environ["FOLDER"], "ray"), _node_ip_address="127.0.0.1", **settings)
from ray.data import DataContext, from_arrow, from_items, from_pandas, read_parquet
from ray.data.datatype import DataType
from ray.data.expressions import col

logging.getLogger("ray.data").setLevel("ERROR")
DataContext.get_current().enable_progress_bars = False
print("ray", ray.__version__, "pyarrow", pa.__version__)

orders, visits = [1, 3, 7, -7], [4, 4, 2, 2]
table = pa.table({"orders": orders, "visits": visits})
file = os.path.join(os.environ["FOLDER"], "orders.parquet")
pq.write_table(table, file)
OPERATIONS = {"/": col("orders") / col("visits"), "//": col("orders") // col("visits"), "%": col("orders") % col("visits")}


def computed(dataset):
    """Return the type and the values of each operation."""
    for name, expression in OPERATIONS.items():
        dataset = dataset.with_column(name, expression)
    rows = dataset.take_all()
    types = dict(zip(dataset.schema().names, map(str, dataset.schema().types)))
    return {name: (types[name], [row[name] for row in rows]) for name in OPERATIONS}


arrow, pandas = computed(from_arrow(table)), computed(from_pandas(table.to_pandas()))
others = computed(from_items(table.to_pylist())), computed(read_parquet(file))
for name in OPERATIONS:
    print(f"orders {name} visits of {list(zip(orders, visits))}: Arrow {arrow[name]}, pandas {pandas[name]}")
kept = len(from_arrow(table).filter(expr=OPERATIONS["/"] >= 0.5).take_all())
as_float = from_arrow(table).with_column("rate", col("orders").cast(DataType.float64()) / col("visits")).take_all()
print("rows kept by orders / visits >= 0.5:", kept, "where 2 have such a rate")
ray.shutdown()

cut = {"/": ("int64", [0, 0, 3, -3]), "//": ("double", [0.0, 0.0, 3.0, -3.0]), "%": ("double", [1.0, 3.0, 1.0, -1.0])}
assert arrow == cut, "Arrow blocks now give other numbers or types"
as_python = {"/": ("double", [0.25, 0.75, 3.5, -3.5]), "//": ("int64", [0, 0, 3, -4]), "%": ("int64", [1, 3, 1, 1])}
assert pandas == as_python, "pandas blocks now give other numbers or types"
assert others == (arrow, arrow), "from_items or read_parquet no longer gives what from_arrow gives"
assert [row["rate"] for row in as_float] == as_python["/"][1], "a cast to float no longer gives the true rates"
assert kept == 1, "the filter now keeps the rate of 0.75"
PYTHON
