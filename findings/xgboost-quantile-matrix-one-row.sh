#!/usr/bin/env bash
# XGBoost: a row that is scored through a QuantileDMatrix of its own gets the score of a different row.
#
# Guess     A QuantileDMatrix holds its rows rounded to at most 256 bins a column. Up to 256 rows have a bin for each value, so they should
#           be scored exactly, a single row above all. Where the bins of training are required, `predict` should refuse.
# Behaviour Without `ref` the bins are made from the rows to be scored, and `predict` reads each value back as the left border of its bin.
#           That border is the value itself, except in a column's first bin: it begins at v - (|v| + 1e-5), so the smallest value v of each
#           column is read as -1e-5 if positive and as about 2v if negative. In a matrix of one row each value is the smallest. A row's
#           score depends on the rows beside it, by more than the standard deviation of all scores, without an error or a warning. With
#           `ref=` (the training matrix) scores are exact.
# Versions  xgboost-cpu 3.2.0, numpy 2.4.6, scipy 1.17.1. Seen on 2026-12-01, alike in xgboost-cpu 2.1.1 and 3.0.0. XGBoost's manual advises
#           `ref` for test data, "as some information may be lost in quantisation".
# Matters   It is the usual matrix for training with `hist`, so it is at hand when scoring is written, and a test with many rows looks
#           nearly right. A server that scores requests of one row answers wrong: a batch of one must equal the same row in a batch of many.
#           Score arrays or a DMatrix.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check xgboost-cpu==3.2.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import xgboost as xgb

print("xgboost", xgb.__version__)
random = np.random.default_rng(0)


def customers(rows):
    """Return days since the last order, orders, and the mean basket less the shop's mean: float32 [rows, 3]."""
    return np.column_stack([random.integers(1, 365, rows), random.integers(1, 40, rows), random.normal(0, 30, rows)]).astype(np.float32)


learned = customers(2_000)
revenue = learned[:, 1] * (50 + learned[:, 2]) / (1 + learned[:, 0] / 100)
training = xgb.QuantileDMatrix(learned, revenue)
model = xgb.train({"max_depth": 5, "nthread": 1}, training, 20)

rows = customers(64)
right = model.predict(xgb.DMatrix(rows))
alone = np.concatenate([model.predict(xgb.QuantileDMatrix(row[None, :])) for row in rows])
together = model.predict(xgb.QuantileDMatrix(rows))
with_ref = np.concatenate([model.predict(xgb.QuantileDMatrix(row[None, :], ref=training)) for row in rows])

print("standard deviation of the 64 scores:", right.std().round(1))
for name, scores in (("64 matrices of one row", alone), ("one matrix of 64 rows", together), ("one row each, with ref", with_ref)):
    print(f"{name}: {(scores != right).sum()} of 64 scores differ from DMatrix, by at most {np.abs(scores - right).max():.1f}")
print("first row:", rows[0], "DMatrix", right[0], "alone", alone[0])

border = rows - (np.abs(rows) + np.float32(1e-5))
smallest = (rows == rows.min(axis=0)).any(axis=1)
assert np.array_equal(model.inplace_predict(rows), right), "arrays and DMatrix no longer agree"
assert np.array_equal(with_ref, right), "with ref the scores are no longer exact"
assert (alone != right).mean() > 0.9 and np.abs(alone - right).max() > right.std(), "a single row is now scored near its DMatrix score"
assert np.array_equal(alone, model.predict(xgb.DMatrix(border))), "a single row is no longer read as v - (|v| + 1e-5)"
assert np.array_equal(together[~smallest], right[~smallest]), "rows without a column's smallest value now differ too"
assert (together[smallest] != right[smallest]).any(), "rows with a column's smallest value are now scored right"
PYTHON
