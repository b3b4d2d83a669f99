#!/usr/bin/env bash
# Babel: amounts in forint, Colombian pesos and 13 other currencies lose the decimals that ISO 4217 gives them.
#
# Guess     `get_currency_precision` and `format_currency` use the minor units of ISO 4217, as payment providers do: HUF, COP and IDR have
#           two, IQD has three. A price that was paid is printed as it was paid.
# Behaviour They use the digits of CLDR, which are those of cash and custom. For 15 active currencies they differ from ISO 4217; CLDR has 0
#           each time. 1,234.56 HUF is printed as HUF1,235, 0.99 COP as COP1, and 12.750 IQD as IQD13. The amount is rounded without a sign of
#           it. `currency_digits=False` keeps the digits of the locale's pattern, which is two for any currency, IQD and JPY too.
# Versions  Babel 2.19.0, iso4217 1.16.20260101 for the comparison, Python 3.11. Seen on 2026-12-01.
# Matters   Prices and invoices: a total printed with Babel differs from what was charged. Rounding prices to Babel's precision changes them:
#           minor units are read from an ISO 4217 table.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check babel==2.19.0 iso4217==1.16.20260101
"$folder/venv/bin/python" - <<'PYTHON'
import platform
from decimal import Decimal

import babel
import iso4217
from babel.numbers import format_currency, get_currency_precision

print("Babel", babel.__version__, "Python", platform.python_version())
differ = {
    currency.code: (currency.exponent, get_currency_precision(currency.code))
    for currency in iso4217.Currency
    if currency.exponent is not None and currency.exponent != get_currency_precision(currency.code)
}
print("  (ISO 4217, Babel):", differ)
shown = {
    code: format_currency(Decimal(amount), code, locale="en_US")
    for code, amount in {"HUF": "1234.56", "COP": "0.99", "IQD": "12.750"}.items()
}
patterned = {
    code: format_currency(Decimal(amount), code, locale="en_US", currency_digits=False)
    for code, amount in {"HUF": "1234.56", "IQD": "12.750", "JPY": "1000"}.items()
}
print("  ", shown, patterned)

assert {"HUF", "COP", "IDR", "IQD"} <= set(differ), "one of these currencies has its minor units now"
assert len(differ) == 15, "the number of currencies that differ has changed"
assert {digits for _, digits in differ.values()} == {0}, "a currency differs in another way"
assert shown == {"HUF": "HUF1,235", "COP": "COP1", "IQD": "IQD13"}, "amounts are printed in another way"
assert patterned == {"HUF": "HUF1,234.56", "IQD": "IQD12.75", "JPY": "¥1,000.00"}, "currency_digits=False prints in another way"
PYTHON
