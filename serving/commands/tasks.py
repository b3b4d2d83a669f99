"""`train` and `batch` for each task: the options that all tasks have, and those that the task declares."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from serving.commands.options import PLAIN, Command, Report, one_of
from training.models import MODELS
from training.models.options import Option

_OWN = ("task", "options")  # the parameters of a verb that are not of the command line


@dataclass(frozen=True, slots=True)
class TaskVerb:
    """A command that exists for each task.

    run: called with `task`, with `options`, those of the task that were given, and with what its other parameters declare. options_of:
    the options that a task declares for it.
    """

    run: Command
    options_of: Callable[[str], Sequence[Option]]

    @property
    def group(self) -> type[TyperGroup]:
        """Return the group whose commands are the tasks."""
        verb = self

        class TaskGroup(TyperGroup):
            def list_commands(self, ctx: Any) -> list[str]:
                return list(MODELS)

            def get_command(self, ctx: Any, cmd_name: str) -> Any:
                return verb.command(one_of(cmd_name, tuple(MODELS), "task"))

            def format_commands(self, ctx: Any, formatter: Any) -> None:
                """Write the tasks without building their commands, for which modules would be imported."""
                with formatter.section("Tasks"):
                    formatter.write_dl([(name, model.summary) for name, model in MODELS.items()])

        return TaskGroup

    def command(self, task: str) -> Any:
        """Return the command of one task."""
        app = typer.Typer(**PLAIN)
        app.command(task)(self._function(task))
        return typer.main.get_command(app)

    def _function(self, task: str) -> Command:
        """Return `run` for one task, with a signature of which Typer makes parameters.

        The options of other tasks are among them, hidden, so that one that is given is refused by name.
        """
        options = tuple(self.options_of(task))
        own = {option.name for option in options}
        others = {option.name: option for name in MODELS for option in self.options_of(name) if option.name not in own}

        def run(**values: Any) -> Report:
            taken = {option.name: values.pop(option.name) for option in (*options, *others.values())}
            for name, option in others.items():
                if taken[name] not in (None, False):
                    raise typer.BadParameter(f"{option.flag} does not apply to {task}; leave it out")
            return self.run(task=task, options=_given(options, taken), **values)

        run.__signature__ = self._signature(options, tuple(others.values()))  # type: ignore[attr-defined]
        run.__doc__ = self.run.__doc__
        return run

    def _signature(self, options: Sequence[Option], others: Sequence[Option]) -> inspect.Signature:
        """Return the signature of `run` with the task's options before those that every command has."""
        signature = inspect.signature(self.run)
        common = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values() if one.name not in _OWN]
        place = next(place for place, one in enumerate(common) if one.name == "seed")
        own = [*(parameter(option) for option in options), *(parameter(option, hidden=True) for option in others)]
        return signature.replace(parameters=[*common[:place], *own, *common[place:]])


def parameter(option: Option, *, hidden: bool = False) -> inspect.Parameter:
    """Return the parameter that Typer makes the option of."""
    info = typer.Option(
        option.flag, metavar=option.metavar, help=option.help, min=option.minimum, max=option.maximum, hidden=hidden, show_default=False
    )
    flag = option.kind is bool
    kind: Any = bool if flag else option.kind | None
    default = False if flag else None if hidden else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _given(options: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the options that were given, or have a default."""
    return {option.name: option.value(values[option.name]) for option in options if values[option.name] not in (None, False)}
