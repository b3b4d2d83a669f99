"""The notation of a column of numbers: decimal mark, thousands, currency and percent, found from all of its cells."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from training.currencies import DIGITS
from training.errors import TableError
from training.tables.cells.columns import texts
from training.tables.cells.options import DEFAULT, CellOptions, DecimalMark

MARKS: tuple[DecimalMark, DecimalMark] = (".", ",")
SAMPLE = 64  # distinct texts, of which one usually shows that a column has no decimal comma

_LETTERS: Mapping[str, str] = {"kr": "SEK, NOK or DKK", "kr.": "SEK, NOK or DKK", "zł": "PLN", "kč": "CZK", "ft": "HUF", "fr.": "CHF"}
_SYMBOLS: Mapping[str, str] = {"$": "USD", "€": "EUR", "£": "GBP", "₹": "INR", "us$": "USD", **_LETTERS}  # marks that stand for one code
_MARK = rf"(?:(?i:[A-Z]{{0,3}})\p{{Sc}}|(?i:{'|'.join(sorted(DIGITS))})|(?i:kr\.?|zł|Kč|Ft|Fr\.))"
_SIGN = r"[-+\x{2212}]"
_PATTERN = (
    rf"^(?P<open>\()?\s*(?P<sign>{_SIGN})?\s*(?P<before>{_MARK})?\s*(?P<inner>{_SIGN})?\s*(?P<opened>\()?\s*"
    r"(?P<core>[\d.,](?:[\d.,'\x{2019}\s]*\d)?[.,]?(?:[eE][-+]?\d+)?)"
    rf"\s*(?P<percent>%)?\s*(?P<after>{_MARK})?\s*(?P<last>-)?\s*(?P<close>\))?$"
)
# A thousands mark stands between groups of three digits, in India of two before the last three; no number begins with a group that is 0.
_FORMS: Mapping[DecimalMark, str] = {
    ".": (
        r"^(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$"
        r"|^[1-9]\d{0,2}(?:(?:,\d{3})+|(?:\s\d{3})+|(?:['\x{2019}]\d{3})+)(?:\.\d*)?$"
        r"|^[1-9]\d?(?:,\d{2})*,\d{3}(?:\.\d*)?$"
    ),
    ",": (
        r"^(?:\d+,?\d*|,\d+)(?:[eE][-+]?\d+)?$"
        r"|^[1-9]\d{0,2}(?:(?:\.\d{3})+|(?:\s\d{3})+|(?:['\x{2019}]\d{3})+)(?:,\d*)?$"
    ),
}
_GROUPING: Mapping[DecimalMark, str] = {".": r"[,'\x{2019}\s]", ",": r"[.'\x{2019}\s]"}
_POINT_GROUP = r"^[-+]?[1-9]\d{0,2}\.\d{3}$"  # a plain number that is another one where points stand between thousands


class Parsed(NamedTuple):
    """Distinct texts of a column, without blank ones, and what each is. values: by decimal mark, null for text that is no number so."""

    texts: pl.Series
    values: Mapping[DecimalMark, pl.Series]
    currency: pl.Series
    percent: pl.Series


def parsed(distinct: pl.Series) -> Parsed:
    """Return what distinct texts are, which are stripped of surrounding blanks."""
    parts = distinct.str.extract_groups(_PATTERN).struct.unnest()
    closed = parts["open"].is_not_null().cast(pl.Int8) + parts["opened"].is_not_null() == parts["close"].is_not_null().cast(pl.Int8)
    signs = sum((parts[name].is_not_null().cast(pl.Int8) for name in ("sign", "inner", "last")), parts["close"].is_not_null().cast(pl.Int8))
    marks = parts["before"].is_not_null() & parts["after"].is_not_null()
    whole = parts["core"].set(~closed | (signs > 1) | marks, None)
    minus = pl.select(
        pl.any_horizontal(*(parts[name].is_in(["-", "\u2212"]).fill_null(False) for name in ("sign", "inner", "last")))
        | parts["close"].is_not_null()
    ).to_series()
    percent = parts["percent"].is_not_null()
    values = dict[DecimalMark, pl.Series]()
    for mark, form in _FORMS.items():
        core = whole.set(~whole.str.contains(form), None).str.replace_all(_GROUPING[mark], "")
        number = core.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        number = number.set(number.is_infinite(), None)
        shared = pl.select(pl.when(percent).then(number / 100).otherwise(number)).to_series()
        values[mark] = pl.select(pl.when(minus).then(-shared).otherwise(shared)).to_series()
    currency = parts["before"].fill_null(parts["after"]).str.to_lowercase()
    return Parsed(distinct, values, currency.replace(list(_SYMBOLS), list(_SYMBOLS.values())).str.to_uppercase(), percent)


def distinct_texts(column: Any, options: CellOptions) -> pl.Series:
    """Return the distinct texts of a column without blank ones, stripped of surrounding blanks."""
    found = texts(column).drop_nulls().unique(maintain_order=True)
    return found.filter(~found.str.to_lowercase().is_in(options.blank_cells))


class NumberNotation:
    """The notation of a column of numbers, found from its chunks one after the other."""

    def __init__(self, column: str, options: CellOptions = DEFAULT) -> None:
        self._column, self._options = column, options
        self._fits: dict[DecimalMark, bool] = dict.fromkeys(MARKS, True)
        self._only: dict[DecimalMark, bool] = dict.fromkeys(MARKS, False)  # whether a text fits this mark and not the other
        self._fitting: dict[DecimalMark, int] = dict.fromkeys(MARKS, 0)
        self._texts = 0
        self._different: tuple[str, float, float] | None = None
        self._currencies = dict[str, str]()
        self._percent: str | None = None
        self._plain: str | None = None

    def add(self, column: Any) -> None:
        """Take the texts of a chunk of the column into account."""
        self.add_distinct(distinct_texts(column, self._options))

    def add_distinct(self, distinct: pl.Series) -> None:
        """Take distinct texts into account, as `distinct_texts` returns them."""
        self._texts += len(distinct)
        plain = distinct.cast(pl.Float64, strict=False)
        if plain.is_finite().sum() == len(distinct):  # null is not finite
            self._add_plain(distinct, plain)
        else:
            self._add_written(parsed(distinct))

    @property
    def decimal(self) -> DecimalMark:
        """Return the decimal mark.

        Where text that is no number is among the cells it is the comma if that alone fits some of them. Raises TableError for a column
        that is another one with either mark, for amounts in several currencies, and for percentages beside other numbers.
        """
        self._check_units()
        if self._options.decimal is not None:
            return self._options.decimal
        if all(self._fits.values()) and self._different is not None:
            text, point, comma = self._different
            raise TableError(
                f"column {self._column}: {text!r} is {point:.15g} with a decimal point and {comma:.15g} with a decimal comma, and every "
                "cell fits both; state which: --decimal . or --decimal ,"
            )
        if self._fits["."] or self._fits[","]:
            return "." if self._fits["."] else ","
        return "," if self._only[","] and not self._only["."] else "."

    @property
    def is_decided(self) -> bool:
        """Return whether a cell fits one mark alone, or the options have the mark, so that other cells do not change it."""
        return any(self._only.values()) or self._options.decimal is not None

    @property
    def share(self) -> float:
        """Return the share of the texts that are numbers with the mark that fits most of them; 1 where there is no text."""
        return max(self._fitting.values()) / self._texts if self._texts else 1.0

    def _add_plain(self, distinct: pl.Series, plain: pl.Series) -> None:
        """Take numbers with a decimal point and nothing else into account."""
        self._fitting["."] += len(distinct)
        if self._plain is None and (plain != 0).any():
            self._plain = distinct[int((plain != 0).arg_true()[0])]
        if self._fits[","] or not self._only["."]:
            for texts in (distinct.head(SAMPLE), distinct):
                grouped = texts.str.contains(_POINT_GROUP)
                fits = grouped | ~texts.str.contains(".", literal=True)
                if not fits.all():
                    self._fits[","], self._only["."] = False, True
                    break
                if texts is distinct:
                    self._fitting[","] += len(distinct)
                if self._different is None and grouped.any():
                    text = texts[int(grouped.arg_true()[0])]
                    self._different = text, float(text), float(text.replace(".", ""))

    def _add_written(self, found: Parsed) -> None:
        for mark in MARKS:
            there = found.values[mark].is_not_null()
            self._fits[mark] &= bool(there.all())
            self._fitting[mark] += int(there.sum())
        point, comma = found.values["."], found.values[","]
        self._only["."] |= bool((point.is_not_null() & comma.is_null()).any())
        self._only[","] |= bool((comma.is_not_null() & point.is_null()).any())
        if self._different is None and len(differing := (point != comma).arg_true()):  # null where one does not fit
            place = int(differing[0])
            self._different = found.texts[place], point[place], comma[place]
        for mark, text in zip(found.currency.to_list(), found.texts.to_list(), strict=True):
            if mark is not None:
                self._currencies.setdefault(mark, text)
        if self._percent is None and found.percent.any():
            self._percent = found.texts[int(found.percent.arg_true()[0])]
        others = ~found.percent & (point.fill_null(comma) != 0)
        if self._plain is None and others.any():
            self._plain = found.texts[int(others.arg_true()[0])]

    def _check_units(self) -> None:
        if len(self._currencies) > 1:
            amounts = ", ".join(f"{text!r}" for text in list(self._currencies.values())[:3])
            raise TableError(f"column {self._column} holds amounts in several currencies ({amounts}); convert them to one")
        if self._percent is not None and self._plain is not None:
            raise TableError(
                f"column {self._column}: {self._percent!r} is a percentage and {self._plain!r} is not; write all cells with % or none"
            )
