"""The cache of compiled functions is renewed when any file changes that they are compiled from."""

import pickle
from pathlib import Path

import numpy as np

from kernels import compile as kernels_compile
from kernels.pricing import demand, ladder
from serving.engines.purchase import columns, fast_events


def test_the_sources_of_a_function_are_its_file_and_all_that_it_imports():
    found = kernels_compile.sources(ladder.__file__)
    assert {ladder.__file__, demand.__file__, kernels_compile.__file__} <= set(found)
    assert all("kernels" in Path(file).parts for file in found)
    assert columns.__file__ in kernels_compile.sources(fast_events.__file__)


def test_a_cache_with_another_stamp_is_not_read():
    ladder.ladders(*(np.ones(shape) for shape in (1, (1, ladder.INPUTS), (1, 1))))
    cache = ladder.ladders._cache._cache_file
    assert cache._load_index()
    index = Path(cache._index_path)
    version, content = cache._version, index.read_bytes()
    index.write_bytes(pickle.dumps(f"{version}0", protocol=-1) + b"a class that is gone")
    assert not cache._load_index()
    index.write_bytes(content)
    assert cache._load_index()
