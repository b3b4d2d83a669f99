"""`revenue-engine models ...`: the registry."""

from serving.commands.models.changes import add, delete, promote, rollback
from serving.commands.models.comparison import compare
from serving.commands.models.listing import card, list_, show
from serving.commands.options import Command

COMMANDS: tuple[tuple[str, Command], ...] = (
    ("list", list_),
    ("show", show),
    ("card", card),
    ("compare", compare),
    ("add", add),
    ("promote", promote),
    ("rollback", rollback),
    ("delete", delete),
)
