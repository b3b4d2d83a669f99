"""What can go wrong below serving: tables, bundles and the registry. Messages name the thing, the value and the fix."""


class TrainingError(Exception):
    """Base of everything training raises on purpose."""

    code = "training"


class TableError(TrainingError):
    """A table cannot be read as asked: it names the file, the line, the column and the fix."""

    code = "table"


class CellError(TableError):
    """A cell does not hold what its column needs. `row` counts from 0 in the table that was read; `at` tells where that is in the file."""

    def __init__(self, row: int, column: str, value: object, fix: str, place: str = "") -> None:
        self.row, self.column, self.value, self.fix = row, column, value, fix
        super().__init__(f"{place or f'row {row + 1}'}, column {column}: {value!r} {fix}")

    def at(self, place: str) -> "CellError":
        """Return the error with its place, such as `sessions.csv, line 17`."""
        return CellError(self.row, self.column, self.value, self.fix, place)


class FitError(TrainingError):
    """A model cannot be fitted to what it is given: it says what is missing in it and what to do."""

    code = "fit"


class BundleError(TrainingError):
    """A bundle is missing, corrupted or does not match this code."""

    code = "bundle"


class RegistryError(TrainingError):
    """The registry has no such model, or refuses what was asked."""

    code = "registry"


class DeviceError(TrainingError):
    """The device that a setting names is not there."""

    code = "device"
