"""The seconds of Retry-After are whole, at least 1 and bounded."""

import pytest

from serving.ingress.retry_after import MAX_RETRY_S, whole_seconds


@pytest.mark.parametrize(
    ("estimate_s", "stated"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.2, 2), (59.001, 60), (1e9, MAX_RETRY_S), (float("inf"), MAX_RETRY_S)]
)
def test_an_estimate_is_rounded_up_and_bounded(estimate_s, stated):
    assert whole_seconds(estimate_s) == stated
