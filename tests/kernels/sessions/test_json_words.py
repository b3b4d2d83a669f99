"""Eight bytes are loaded as one number, the first byte lowest, in compiled code as in Python."""

import numpy as np
import pytest

from kernels.compile import on_cpu
from kernels.sessions import json_words


@on_cpu
def at(data, start):
    return json_words.load(data, start)


def test_a_word_is_the_same_in_compiled_code_wherever_it_begins():
    data = np.random.default_rng(1).integers(0, 256, 40).astype(np.uint8)
    for start in range(33):
        assert at(data, start) == json_words.load(data, start) == int.from_bytes(data[start : start + 8].tobytes(), "little")


@pytest.mark.parametrize("text", [b"a", b"timestamp", b"exactly8", b"x" * 17])
def test_a_text_matches_where_all_its_words_match_and_nowhere_else(text):
    rows, masks = json_words.table((text, b"another text, longer than others"))
    for other, begins in ((text, True), (text + b"!", True), (text[:-1] + b"?", False), (b"?" + text[1:], False)):
        data = np.frombuffer(other.ljust(64, b"\1"), np.uint8)
        found = [json_words.load(data, 8 * part) & mask == row for part, (row, mask) in enumerate(zip(rows[0], masks[0], strict=True))]
        assert all(found) is begins
