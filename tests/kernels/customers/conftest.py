"""The published data of CDNOW."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def cdnow(data_dir):
    """Return the published summary: x, t_x, T of 2,357 customers, and their mean spend."""
    table = np.genfromtxt(data_dir / "cdnow" / "cdnow_customers_summary_with_transactions.csv", delimiter=",", skip_header=1)
    return np.ascontiguousarray(table[:, 1:4]), table[:, 4].copy()


@pytest.fixture(scope="module")
def holdout_purchases(data_dir):
    """Return each customer's purchases in the 39 weeks after the summary; several on one day count as one."""
    lines = (line.split() for line in (data_dir / "cdnow" / "CDNOW_sample.txt").read_text().splitlines())
    days = {(int(line[1]), line[2]) for line in lines if line[2] > "19970930"}
    return np.bincount([one - 1 for one, _ in days], minlength=2357).astype(float)
