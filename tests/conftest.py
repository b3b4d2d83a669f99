"""What every test may ask for."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".revenue-engine" / "numba"))  # one for all servers: to compile takes half a minute


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data sets; a test that needs it skips where it is absent."""
    folder = Path(os.environ.get("REVENUE_ENGINE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}: set REVENUE_ENGINE_DATA")
    return folder
