"""The base rate of a device and an hour: the share that bought, drawn towards what is known of more sessions."""

import math

import numpy as np
import pytest

from training.features import INDEX, given
from training.models.purchase.base_rate import HOURS, SHRINKAGE, BaseRate


def table(device, hour, y):
    X = given(len(y)).astype(np.float32)
    X[:, INDEX["deviceType"]] = device
    X[:, INDEX["timeOfDay"]] = hour
    return X, np.array(y, np.float64)


def test_many_sessions_speak_for_themselves_and_few_for_those_around_them():
    device = [0] * 10_000 + [1] * 10_000 + [1]
    hour = [9.99] * 10_000 + [20.0] * 10_000 + [3.0]
    y = [1, 0] * 5_000 + [1, 0, 0, 0] * 2_500 + [1]
    rates = BaseRate.fit(*table(device, hour, y), ["desktop", "mobile"])
    assert rates.of("Desktop", 9.0) == pytest.approx(0.5, abs=0.001)
    assert rates.of("mobile", 20.5) == pytest.approx(0.25, abs=0.001)
    mobile = (2501 + SHRINKAGE * 7501 / 20001) / (10_001 + SHRINKAGE)
    assert rates.of("mobile", 3.5) == pytest.approx((1 + SHRINKAGE * mobile) / (1 + SHRINKAGE))
    assert rates.of("mobile", 4.0) == pytest.approx(mobile)


def test_an_unknown_device_is_everybody_at_that_hour():
    rates = BaseRate.fit(*table([0] * 1000 + [1] * 1000, [9.0] * 2000, [1] * 1000 + [0] * 1000), ["desktop", "mobile"])
    assert rates.of("fridge", 9.0) == rates.of(None, 9.9) == pytest.approx(0.5)


def test_a_table_without_device_and_hour_gives_its_rate_everywhere():
    rates = BaseRate.fit(*table(math.nan, math.nan, [1, 0, 0, 0] * 50), [])
    assert {rates.of(None, hour) for hour in range(HOURS)} == {0.25}


def test_it_survives_its_file_and_another_shape_is_refused():
    rates = BaseRate.fit(*table([0] * 9, [1.0] * 9, [1] * 3 + [0] * 6), ["desktop"])
    assert BaseRate.read(rates.content()) == rates
    with pytest.raises(ValueError, match="shape"):
        BaseRate.read({"hourly": {"desktop": [0.5] * HOURS}})
    with pytest.raises(ValueError, match="shape"):
        BaseRate.read({"hourly": {"": [0.5] * (HOURS - 1)}})
