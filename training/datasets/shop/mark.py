"""How a table of the simulated shop is recognised later: a key in the metadata of its Parquet file, or the truth beside it."""

from pathlib import Path

import polars as pl

MARK = {"simulatedBy": "revenue-engine"}
TRUTH = ("truth.parquet", "truth_customers.parquet", "truth_products.parquet")


def is_simulated(path: Path) -> bool:
    """Return whether a file, or one of a folder, was written by the simulator: it has the mark, or is beside the truth of a simulated shop.

    A copy in another format in another folder is not recognised.
    """
    return any(map(_is_simulated, path.iterdir() if path.is_dir() else [path]))


def _is_simulated(file: Path) -> bool:
    if all((file.parent / name).is_file() for name in TRUTH):
        return True
    if file.suffix != ".parquet":
        return False
    try:
        found = pl.read_parquet_metadata(file)
    except (OSError, pl.exceptions.PolarsError):  # what is wrong with the file is reported where it is read as a table
        return False
    return MARK.items() <= found.items()
