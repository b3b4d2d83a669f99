"""Errors of training: tables, fits, bundles and the registry. Messages name the thing, the value and the fix."""


class TrainingError(Exception):
    """Base of the errors that training raises."""

    code = "training"


class TableError(TrainingError):
    """A table cannot be read; the message names the file, the line, the column and the fix."""

    code = "table"


class CellError(TableError):
    """A cell has a wrong value. row: counted from 0 in the table that was read; `at` adds the place in the file."""

    def __init__(self, row: int, column: str, value: object, fix: str, place: str = "") -> None:
        self.row, self.column, self.value, self.fix = row, column, value, fix
        super().__init__(f"{place or f'row {row + 1}'}, column {column}: {value!r} {fix}")

    def at(self, place: str) -> "CellError":
        """Return the error with its place, such as `sessions.csv, line 17`."""
        return CellError(self.row, self.column, self.value, self.fix, place)


class FitError(TrainingError):
    """A model cannot be fitted to the data; the message names what is missing and the fix."""

    code = "fit"


class BundleError(TrainingError):
    """A bundle is missing, corrupted or does not match this code."""

    code = "bundle"


class RegistryError(TrainingError):
    """The registry has no such model, or rejects a change."""

    code = "registry"


class DeviceError(TrainingError):
    """The device of a setting does not exist on this machine."""

    code = "device"
