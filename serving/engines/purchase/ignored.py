"""What a purchase request states without an effect on the score of the served model: fields, values, and types of events."""

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from kernels.sessions.timeline import KIND
from serving.engines.ignored import NOTHING, IgnoredPaths, ignored_paths
from serving.engines.purchase.columns import EventTable, read
from serving.engines.purchase.types import Aggregates, PurchasePredictionRequest
from training import features
from training.features import EVENT_CODES

Getter = Callable[[PurchasePredictionRequest], Any]

# The features that count events of a type; those of all types count whatever happens, also what is not known.
OF_ALL_TYPES = ("eventCount", "activeSeconds", "lastGapSeconds")
_PAGES = tuple(f"{group}{what}" for group in ("administrative", "informational", "product") for what in ("Count", "Seconds"))
_ANSWER = ("rageClickCount",)  # which an event that answers a click lowers
OF_TYPE: Mapping[str, Sequence[str]] = {
    "page_view": (*_PAGES, *_ANSWER),
    "product_view": (*_PAGES, "productViewCount", *_ANSWER),
    "search": ("searchCount", *_ANSWER),
    "add_to_cart": ("cartAddCount", *_ANSWER),
    "remove_from_cart": ("cartRemoveCount", *_ANSWER),
    "checkout": ("checkoutCount", *_ANSWER),
    "click": ("clickCount", "rageClickCount"),
    "scroll": _ANSWER,
    "input": _ANSWER,
    "wait": ("waitSeconds",),
    "change": _ANSWER,
}


def _aggregate(name: str) -> Getter:
    return lambda request: getattr(request.behavior_data.aggregates, name, None)


# Paths of what a request states, with the features that it becomes.
FIELDS: Mapping[str, tuple[Getter, Sequence[str]]] = {
    "behaviorData.pageViews": (attrgetter("behavior_data.page_views"), ("pageViews",)),
    "behaviorData.timeOnSite": (attrgetter("behavior_data.time_on_site"), ("timeOnSite",)),
    **{
        f"behaviorData.aggregates.{feature}": (_aggregate(name), (feature,))
        for name, feature in zip(Aggregates.__struct_fields__, Aggregates.__struct_encode_fields__, strict=True)
    },
    "contextData.timeOfDay": (attrgetter("context_data.time_of_day"), ("timeOfDay",)),
    "contextData.dayOfWeek": (attrgetter("context_data.day_of_week"), ("dayOfWeek", "weekend")),
    "contextData.month": (attrgetter("context_data.month"), ("month",)),
    "contextData.specialDay": (attrgetter("context_data.special_day"), ("specialDay",)),
    "contextData.deviceType": (attrgetter("context_data.device_type"), ("deviceType",)),
    "contextData.operatingSystem": (attrgetter("context_data.operating_system"), ("operatingSystem",)),
    "contextData.browser": (attrgetter("context_data.browser"), ("browser",)),
    "contextData.location.region": (lambda request: getattr(request.context_data.location, "region", None), ("region",)),
    "contextData.trafficType": (attrgetter("context_data.traffic_type"), ("trafficType",)),
    "contextData.visitorType": (attrgetter("context_data.visitor_type"), ("visitorType",)),
}
_OF_CATEGORY = {of[0]: (path, getter) for path, (getter, of) in FIELDS.items() if of[0] in features.CATEGORIES}


class IgnoredInputs:
    """Names what a request states and one model cannot use. What depends on the model alone is decided once."""

    def __init__(self, used: Collection[str]) -> None:
        """`used`: the features that the model's score depends on."""
        unused = [(path, getter) for path, (getter, of) in FIELDS.items() if not any(feature in used for feature in of)]
        self._fields = tuple(unused)
        self._categories = {name: found for name, found in _OF_CATEGORY.items() if name in used}
        counts_all = any(feature in used for feature in OF_ALL_TYPES)
        self._types: Mapping[float, str] = {
            EVENT_CODES[name]: name for name, of in OF_TYPE.items() if not counts_all and not any(feature in used for feature in of)
        }

    def of(self, request: PurchasePredictionRequest, missing: Sequence[str]) -> IgnoredPaths:
        """Return what is ignored; missing: the features of the request that are missing, among them values that training has not seen.

        An event of a type that is not known counts as an event; its type is ignored.
        """
        events = request.behavior_data.interactions
        table = events if isinstance(events, EventTable) else read(events)
        paths = self._types_of(table) if table.unknown or self._types else []
        for path, getter in self._fields:
            if getter(request) is not None:
                paths.append(path)
        categories = self._categories
        for name in missing:
            if name in categories:
                path, getter = categories[name]
                if getter(request) is not None:
                    paths.append(path)
        return ignored_paths(paths) if paths else NOTHING

    def _types_of(self, table: EventTable) -> list[str]:
        """Return the paths of the types of events that are ignored."""
        codes = dict.fromkeys(table.rows[:, KIND].tolist()) if self._types else ()
        names = [*table.unknown, *(self._types[code] for code in codes if code in self._types)]
        return [f"behaviorData.interactions.{name}" for name in names]
