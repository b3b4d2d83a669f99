"""JSON types that several questions share: numbers, texts, times, places, events, actions, factors.

Constraints are part of the types, so that the decoder and the JSON Schema cannot differ. JSON `null` equals absent in every optional field.
Numbers have upper bounds far beyond any shop's, so that none overflows the float32 feature matrix.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol

import numpy as np
from msgspec import Meta, Struct

from kernels.sessions.json_events import NEW_TAB
from kernels.types import F64
from serving.errors import FieldProblem


class ApiModel(Struct, frozen=True, rename="camel", gc=False):
    """A JSON object of the API: camelCase, immutable, unknown fields ignored. Never part of a reference cycle, hence `gc=False`."""


Count = Annotated[float, Meta(ge=0, le=1e9)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Milliseconds = Annotated[float, Meta(ge=0, le=1e9)]
Money = Annotated[float, Meta(ge=0, le=1e12)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Pixel = Annotated[float, Meta(ge=-1e6, le=1e6)]
Id = Annotated[str, Meta(min_length=1, max_length=256)]
Name = Annotated[str, Meta(max_length=256)]
Url = Annotated[str, Meta(max_length=4096)]
# 3 and 3.0 are the same JSON number; msgspec's int would refuse the latter.
DayOfWeek = Annotated[float, Meta(ge=0, le=6, multiple_of=1)]
Month = Annotated[float, Meta(ge=1, le=12, multiple_of=1)]
Category = Name | Annotated[float, Meta(ge=-(2**53), le=2**53, multiple_of=1)]

UNKNOWN_CURRENCY = "XXX"  # ISO 4217: no currency

FIRST_YEAR, LAST_YEAR = 2000, 2099
_FIRST_MS = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp() * 1000
_END_MS = datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp() * 1000
Moment = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=_FIRST_MS, lt=_END_MS)]


def is_valid_moment(moment: datetime | float) -> bool:
    """Return whether the moment is in the years 2000 to 2099: of a number the type has checked it, of a datetime no type can."""
    return not isinstance(moment, datetime) or FIRST_YEAR <= moment.year <= LAST_YEAR


def invalid_moment(field: str) -> FieldProblem:
    """Return the problem of a field whose moment is not valid."""
    return FieldProblem(field, f"expected a moment in the years {FIRST_YEAR} to {LAST_YEAR}")


def any_invalid_moment(moments: list[datetime | float]) -> bool:
    """Return whether some of the moments are not valid; faster than `is_valid_moment` of each."""
    years = [moment.year for moment in moments if type(moment) is datetime]
    return bool(years) and (min(years) < FIRST_YEAR or max(years) > LAST_YEAR)


def epoch_ms(moment: datetime | float) -> float:
    """Return the moment in milliseconds since 1970-01-01 UTC."""
    return moment.timestamp() * 1000.0 if isinstance(moment, datetime) else moment


def from_epoch_ms(epoch_ms: float) -> datetime:
    """Return milliseconds since 1970-01-01 UTC as a datetime in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


# Where a clicked link leads: to a new tab or a download, of which the page that was clicked shows nothing.
LinkTarget = Annotated[
    Name | None,
    Meta(description="For a click on a link: blank (or _blank), if it opens a new tab. Such a click counts as answered."),
]
Download = Annotated[
    bool | Name | None,
    Meta(description="For a click on a link: true, or the name of a file, if it starts a download. Such a click counts as answered."),
]


class InteractionEvent(ApiModel, frozen=True, kw_only=True):
    """One event of a session. Only `type` and `timestamp` are required; unknown types and page kinds count as unknown."""

    type: Annotated[
        Name,
        Meta(
            description="page_view, product_view, search, add_to_cart, remove_from_cart, checkout, click, scroll, input, wait, change, "
            "or a name of Google Analytics 4 or Segment for the same, such as begin_checkout or Product Added; "
            "any other type is counted as an event of unknown type (ignored). purchase is ignored: it would be the answer."
        ),
    ]
    timestamp: Annotated[Moment, Meta(description="ISO 8601 with a zone, or milliseconds since 1970-01-01 UTC; any order.")]
    page_kind: Annotated[
        Name | None,
        Meta(description="administrative, informational, product, home, category, search, cart, checkout, account or other."),
    ] = None
    page: Annotated[Url | None, Meta(description="Path or URL of the page.")] = None
    product_id: Annotated[Id | None, Meta(description="The product that the event is about.")] = None
    element_id: Annotated[Name | None, Meta(description="What was clicked, scrolled or typed into.")] = None
    x: Annotated[Pixel | None, Meta(description="Pixels from the left of the page.")] = None
    y: Annotated[Pixel | None, Meta(description="Pixels from the top of the page.")] = None
    wait_ms: Annotated[Milliseconds | None, Meta(description="How long the shopper waited for the shop, in milliseconds.")] = None
    value: Annotated[
        Annotated[float, Meta(ge=-1e12, le=1e12)] | None,
        Meta(description="A number that belongs to the event, such as a price or a scroll depth. Not used for the score."),
    ] = None
    target: LinkTarget = None
    download: Download = None


class Link(Protocol):
    """What the events of all questions state of a clicked link."""

    @property
    def target(self) -> str | None:
        """Return where the link opens."""

    @property
    def download(self) -> bool | str | None:
        """Return whether, or as what file, the link is downloaded."""


def is_outbound(event: Link) -> bool:
    """Return whether the event is a click on a link to a new tab or a download."""
    return event.target in NEW_TAB or bool(event.download)


class GeoLocation(ApiModel, frozen=True, kw_only=True):
    """The location of the shopper, as far as it is known. Only `region` is used for the score."""

    country: Annotated[Name | None, Meta(description="ISO 3166-1 alpha-2, such as NL.")] = None
    region: Annotated[Category | None, Meta(description="As it is named in the training data.")] = None
    city: Annotated[Name | None, Meta(description="Not used for the score.")] = None
    latitude: Annotated[Annotated[float, Meta(ge=-90, le=90)] | None, Meta(description="Degrees, north positive.")] = None
    longitude: Annotated[Annotated[float, Meta(ge=-180, le=180)] | None, Meta(description="Degrees, east positive.")] = None


# What a shop can do about a session or a customer. Closed, so that a caller can map every code to an implementation.
ActionCode = Literal[
    "offer_help",
    "protect_checkout",
    "remind_cart",
    "reassure",
    "ease_payment",
    "help_choose",
    "show_bestsellers",
    "speed_up",
    "capture_contact",
    "spend_nothing",
    "win_back",
    "stay_in_touch",
    "reward_loyalty",
    "invite_second_purchase",
    "cross_sell",
]


# What the model of an answer was learned from. demo: a simulated shop, as the default models are.
AnswerBasis = Annotated[
    Literal["model", "demo"],
    Meta(description="model: learned from data that somebody gave. demo: learned from a simulated shop, for demonstration alone."),
]

# What the served model cannot use of a request, by path, so that a caller sees it: at most MAX_IGNORED names.
MAX_IGNORED = 20
Ignored = Annotated[
    list[str],
    Meta(description=f"What the request states and the served model cannot use, by path; the first {MAX_IGNORED}.", max_length=MAX_IGNORED),
]
MoreIgnored = Annotated[int, Meta(ge=0, description="How many more there are than `ignored` lists.")]


# What an answer does without because time is short: nothing; factors; freshness (a cached answer past its time); the model itself.
Degradation = Literal["none", "no-explanation", "stale", "base-rate"]

RiskBand = Literal["low", "medium", "high"]
RISK_BANDS: tuple[RiskBand, ...] = ("low", "medium", "high")
LOW_RISK, HIGH_RISK = 0.33, 0.66  # low: below LOW_RISK; high: above HIGH_RISK


def risk_bands(risk: F64) -> list[RiskBand]:
    """Return the band of each risk [n]."""
    return [RISK_BANDS[place] for place in ((risk >= LOW_RISK).astype(np.int64) + (risk > HIGH_RISK)).tolist()]


class RecommendedAction(ApiModel, frozen=True, kw_only=True):
    """An action that is worth taking now. `basis` is the kind of evidence: a rule is a person's judgement, not a measured effect."""

    rule: Annotated[str, Meta(description="The rule of configs/actions.yaml that fired.")]
    action: Annotated[ActionCode, Meta(description="The code of the action.")]
    description: Annotated[str, Meta(description="What to do and why, in one sentence.")]
    priority: Annotated[int, Meta(ge=1, description="1 comes first.")]
    basis: Annotated[Literal["rule"], Meta(description="The kind of evidence: rule is a person's judgement.")] = "rule"


class PredictionFactor(ApiModel, frozen=True, kw_only=True):
    """How much one feature moved this score away from the model's average: an association in past data, not a cause."""

    name: Annotated[str, Meta(description="A feature's name; otherFeatures is the sum of all that are not listed.")]
    value: Annotated[float | str | None, Meta(description="The feature's value in this request; null when missing.")]
    unit: Annotated[str, Meta(description="The unit of value; empty where it has none.")]
    contribution: Annotated[float, Meta(description="Exact SHAP value in log-odds; all contributions plus bias add up to margin.")]
    direction: Annotated[Literal["raises", "lowers"], Meta(description="Whether the feature raised or lowered the score.")]
