"""How the cells of a table are read where the table alone does not decide it."""

from dataclasses import dataclass, replace
from typing import Literal

BLANK = ("null", "none", "nan", "n/a", "na", "(not set)", "(none)")  # words for a missing cell, in small letters

DecimalMark = Literal[".", ","]


@dataclass(frozen=True, slots=True)
class CellOptions:
    """What the command line says about the cells of a table.

    blank: the words that mean a missing cell, compared without case and surrounding blanks; an empty cell is always missing. time_format:
    the format of times, as for `datetime.strptime`, where more than one fits. decimal: the decimal mark, where both fit.
    """

    blank: tuple[str, ...] = BLANK
    time_format: str | None = None
    decimal: DecimalMark | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "blank", tuple(dict.fromkeys(word.strip().lower() for word in self.blank)))

    @property
    def blank_cells(self) -> tuple[str, ...]:
        """Return all missing cells, in small letters and without surrounding blanks: the words, and the empty cell."""
        return ("", *self.blank)

    def is_blank(self, text: str) -> bool:
        """Return whether a text means a missing cell."""
        return text.strip().lower() in self.blank_cells

    def but(self, *words: str) -> "CellOptions":
        """Return the options in which these words are values, not missing cells."""
        return replace(self, blank=tuple(word for word in self.blank if word not in words))


DEFAULT = CellOptions()
EMPTY_ONLY = CellOptions(blank=())  # of cells whose blank words have been removed before
