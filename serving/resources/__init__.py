"""REST collections that are not scores. RESOURCES lists them: routes, permissions and OpenAPI follow from each entry."""

from collections.abc import Sequence

from serving.resources.health import HEALTH
from serving.resources.models import MODELS
from serving.resources.resource import Resource

RESOURCES: Sequence[Resource] = (HEALTH, MODELS)
