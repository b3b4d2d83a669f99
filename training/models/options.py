"""What a task declares of its own command-line options: `serving.commands` makes the parameters of `train` and `batch` of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a task: passed as the argument `name` of its `train` or of its table's `join`, unless it was not given.

    kind: str, int, Path, or bool for a flag; several: the value is a list with commas, passed as a tuple; minimum, maximum: of an int.
    """

    name: str
    help: str
    kind: type[str] | type[int] | type[bool] | type[Path] = str
    metavar: str | None = None
    default: Any = None
    minimum: int | None = None
    maximum: int | None = None
    several: bool = False

    @property
    def flag(self) -> str:
        """Return the option as it is written on the command line."""
        return f"--{self.name.replace('_', '-')}"

    def value(self, given: Any) -> Any:
        """Return the argument for what was given on the command line."""
        return tuple(word.strip() for word in given.split(",") if word.strip()) if self.several else given
