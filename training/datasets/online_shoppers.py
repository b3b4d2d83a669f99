"""UCI 468, Online Shoppers Purchasing Intention (Sakar & Kastro 2018, CC BY 4.0): its columns in this project's features.

One row per session of a web shop over a year; 15.5 % bought. PageValues is Google Analytics' average value of a page, computed from later
transactions: it predicts well in hindsight, but is not available in this form while a session runs.
"""

from collections.abc import Mapping
from typing import Any

LABEL = "Revenue"
COLUMNS: dict[str, str] = {
    "Administrative": "administrativeCount",
    "Administrative_Duration": "administrativeSeconds",
    "Informational": "informationalCount",
    "Informational_Duration": "informationalSeconds",
    "ProductRelated": "productCount",
    "ProductRelated_Duration": "productSeconds",
    "BounceRates": "bounceRate",
    "ExitRates": "exitRate",
    "PageValues": "pageValue",
    "SpecialDay": "specialDay",
    "Month": "month",
    "OperatingSystems": "operatingSystem",
    "Browser": "browser",
    "Region": "region",
    "TrafficType": "trafficType",
    "VisitorType": "visitorType",
    "Weekend": "weekend",
    LABEL: "purchased",
}
MONTHS: dict[str, int] = {
    name: number
    for number, names in enumerate(
        (
            ("jan", "january"),
            ("feb", "february"),
            ("mar", "march"),
            ("apr", "april"),
            ("may",),
            ("jun", "june"),
            ("jul", "july"),
            ("aug", "august"),
            ("sep", "sept", "september"),
            ("oct", "october"),
            ("nov", "november"),
            ("dec", "december"),
        ),
        1,
    )
    for name in names
}
SATURDAY, WEDNESDAY = 6, 3
NOON = 12

_AGGREGATES = list(COLUMNS.items())[:9]
_CONTEXT = ("OperatingSystems", "Browser", "TrafficType", "VisitorType")


def request_of(row: Mapping[str, Any], session_id: str = "row") -> dict[str, Any]:
    """Return the body of a PurchasePredictionRequest for a row of the published table; cells may be text or values.

    Required fields that the table does not have (page views, time on site, hour, day) get arbitrary values: a model trained on this table
    does not use them.
    """
    statistics = {field: float(row[column]) for column, field in _AGGREGATES}
    counts = {field: int(value) for field, value in statistics.items() if field.endswith("Count")}
    weekend = str(row["Weekend"]).strip().lower() in ("true", "1")
    return {
        "sessionId": session_id,
        "behaviorData": {
            "pageViews": sum(counts.values()),
            "timeOnSite": sum(value for field, value in statistics.items() if field.endswith("Seconds")),
            "interactions": [],
            "currentPage": "/",
            "aggregates": {**statistics, **counts},
        },
        "contextData": {
            "deviceType": "unknown",
            "timeOfDay": NOON,
            "dayOfWeek": SATURDAY if weekend else WEDNESDAY,
            "month": MONTHS[str(row["Month"]).strip().lower()],
            "specialDay": float(row["SpecialDay"]),
            "location": {"region": str(row["Region"])},
            **{COLUMNS[column]: str(row[column]) for column in _CONTEXT},
        },
    }
