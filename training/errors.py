"""What can go wrong below serving: tables, bundles and the registry. Messages name the thing, the value and the fix."""


class TrainingError(Exception):
    """Base of everything training raises on purpose."""

    code = "training"


class TableError(TrainingError):
    """A table cannot be read as asked: it names the file, the line, the column and the fix."""

    code = "table"


class BundleError(TrainingError):
    """A bundle is missing, corrupted or does not match this code."""

    code = "bundle"


class RegistryError(TrainingError):
    """The registry has no such model, or refuses what was asked."""

    code = "registry"
