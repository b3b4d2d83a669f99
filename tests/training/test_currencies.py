"""The table of currencies is that of the standard."""

import iso4217
import pytest

from training import currencies

STANDARD = {one.code: one.exponent for one in iso4217.Currency if one.exponent is not None}


def test_every_currency_of_the_standard_has_its_minor_unit_and_no_other_is_listed():
    assert currencies.DIGITS == STANDARD
    assert len(STANDARD) > 150


@pytest.mark.parametrize(("currency", "unit", "digits"), [("EUR", 0.01, 2), ("JPY", 1.0, 0), ("KWD", 0.001, 3), ("CLF", 0.0001, 4)])
def test_a_minor_unit_is_the_decimal_number(currency, unit, digits):
    assert (currencies.minor_unit(currency), currencies.shown_digits(currency)) == (unit, digits)


@pytest.mark.parametrize("currency", [None, "XXX", "XAU", "ZZZ"])
def test_what_has_no_minor_unit_is_shown_with_two_decimals(currency):
    assert (currencies.minor_unit(currency), currencies.shown_digits(currency)) == (None, 2)
