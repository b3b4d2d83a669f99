"""Currencies: the number of decimals of an amount, by ISO 4217."""

from collections.abc import Mapping

# ISO 4217, list one (current currencies and funds), published by its maintenance agency SIX on 2026-01-01: codes by their minor units.
# Codes without a minor unit (precious metals, XDR, XXX and the like) are left out.
_CODES: Mapping[int, str] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP "
        "COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
        "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN "
        "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL "
        "THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DIGITS: Mapping[str, int] = {code: digits for digits, codes in _CODES.items() for code in codes.split()}
USUAL_DIGITS = 2  # where there is no currency, or none of the list


def minor_unit(currency: str | None) -> float | None:
    """Return the smallest amount of a currency, such as 0.01 for EUR and 1.0 for JPY; None where the standard has none."""
    digits = DIGITS.get(currency or "")
    return None if digits is None else float(f"1e-{digits}")


def shown_digits(currency: str | None) -> int:
    """Return the number of decimals with which amounts are rounded and shown: those of the currency, else 2."""
    return DIGITS.get(currency or "", USUAL_DIGITS)
