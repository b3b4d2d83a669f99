"""Where a question is answered: in every replica, or in a pool, a process of its own that cannot delay the others."""

from serving.engines import ENGINES
from serving.errors import SettingsError
from serving.settings import Settings


def pooled(settings: Settings) -> list[str]:
    """Return the questions that have a deployment of their own. Raises SettingsError for a placement of an unknown question."""
    known = {engine.name: engine for engine in ENGINES}
    for name in settings.placement:
        if name not in known:
            raise SettingsError(f"placement.{name}: there is no such question; the questions are {', '.join(known)}")
    own = {name: "pooled" if engine.pooled else "replica" for name, engine in known.items()} | settings.placement
    return [name for name, placement in own.items() if placement == "pooled"] if settings.server.own_socket else []
