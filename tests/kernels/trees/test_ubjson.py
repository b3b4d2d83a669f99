"""UBJSON as XGBoost writes it: the same document as its JSON, and an error for every document that was cut or altered."""

import contextlib
import json

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from kernels.trees import ubjson


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 4)).astype(np.float32)
    return xgb.train({"booster": "dart", "rate_drop": 0.5, "max_depth": 3}, xgb.DMatrix(X, X[:, 0] > X[:, 1]), 3)


def same(found: object, said: object) -> bool:
    if isinstance(said, dict):
        return isinstance(found, dict) and found.keys() == said.keys() and all(same(found[key], said[key]) for key in said)
    if isinstance(said, list):
        return len(found) == len(said) and all(same(one, other) for one, other in zip(found, said, strict=True))
    return found == said if isinstance(said, str) else np.float32(found) == np.float32(said)


def test_ubjson_and_json_of_a_booster_are_the_same_document(booster):
    assert same(ubjson.read(bytes(booster.save_raw("ubj"))), json.loads(bytes(booster.save_raw("json"))))


def test_a_truncated_document_is_refused_wherever_it_ends(booster):
    whole = bytes(booster.save_raw("ubj"))
    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="not UBJSON"):
            ubjson.read(whole[:end])
    with pytest.raises(ValueError, match="1 bytes follow"):
        ubjson.read(whole + b"}")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{i\x01aTi\x01bF}", {"a": True, "b": False}),
        (b"[Zi\xff]", [None, -1]),
        (b"[#i\x02SU\x01xL" + (5).to_bytes(8, "big"), ["x", 5]),
        (b"[$S#U\x01i\x03abc", ["abc"]),
        (b"d\x3f\x80\x00\x00", 1.0),
        (b"D" + np.array(0.1, ">f8").tobytes(), 0.1),
        (b"[$I#i\x02\x00\x01\xff\xff", [1, -1]),
    ],
)
def test_every_kind_of_value_is_read(data, value):
    found = ubjson.read(data)
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == value


@given(st.binary(max_size=40))
def test_arbitrary_bytes_raise_an_error_that_names_the_byte(data):
    with contextlib.suppress(ValueError):
        ubjson.read(data)
        assert data[:1] in {mark.encode() for mark in "{[SiUIlLdDTFZ"}


NO_LENGTHS = [mark + length for mark in (b"[#", b"[$i#", b"S", b"{") for length in (b"d" + bytes(4), b"i\xff")]


@pytest.mark.parametrize("data", NO_LENGTHS)
def test_a_length_is_a_whole_number_from_zero(data):
    with pytest.raises(ValueError, match="is not a length"):
        ubjson.read(data)
