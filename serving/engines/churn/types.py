"""JSON types of the churn question: what is known of a customer in, their risk of leaving with its explanation out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from serving.engines.churn.actions import RetentionAction
from serving.engines.types import (
    HIGH_RISK,
    LOW_RISK,
    AnswerBasis,
    ApiModel,
    Currency,
    Degradation,
    Fraction,
    Id,
    Ignored,
    Moment,
    Money,
    MoreIgnored,
    Name,
    PredictionFactor,
    RiskBand,
)

DEFAULT_FACTORS, MAX_FEATURES = 5, 1000
FeatureValue = Annotated[float, Meta(ge=-1e12, le=1e12)] | Name | bool | None


class ChurnPreventionRequest(ApiModel, frozen=True, kw_only=True):
    """What is known of one customer at one moment."""

    customer_id: Annotated[Id, Meta(description="The customer.")]
    features: Annotated[
        dict[str, FeatureValue],
        Meta(
            max_length=MAX_FEATURES,
            description="Values by column of the training table. Null, blank and absent are missing, and so is a category that training "
            "has not seen; columns that the model does not have are ignored, and named in the answer.",
        ),
    ]
    customer_value: Annotated[Money | None, Meta(description="What is lost when the customer leaves; for valueAtRisk.")] = None
    currency: Annotated[Currency | None, Meta(description="Of customerValue, ISO 4217; the answer's amounts are in it.")] = None
    as_of: Annotated[Moment | None, Meta(description="The moment at which the features were true. Absent: now.")] = None
    max_factors: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_FEATURES)] | None,
        Meta(description=f"The most factors to list; absent: {DEFAULT_FACTORS}. 0 saves their computation."),
    ] = None


class ChurnPreventionResponse(ApiModel, frozen=True, kw_only=True):
    """How likely the customer is to leave, the factors of that, the value at risk, and what could be done. Times are ISO 8601 in UTC."""

    customer_id: Annotated[str, Meta(description="As in the request.")]
    churn_risk: Annotated[Fraction, Meta(description="Calibrated probability of `outcome`.")]
    risk_band: Annotated[RiskBand, Meta(description=f"low: below {LOW_RISK}; high: above {HIGH_RISK}; medium: between.")]
    outcome: Annotated[
        str, Meta(description="The event that churnRisk is the probability of, as the training table names it, such as `Churn = Yes`.")
    ]
    factors: Annotated[
        list[PredictionFactor],
        Meta(description="Associations, not causes. Their contributions plus bias equal margin; the last may be otherFeatures, the rest."),
    ]
    contribution_unit: Annotated[Literal["log-odds"], Meta(description="The unit of contributions, bias and margin.")]
    bias: Annotated[float, Meta(description="The model's average margin.")]
    margin: Annotated[float, Meta(description="churnRisk = 1 / (1 + exp(-margin)).")]
    value_at_risk: Annotated[float | None, Meta(description="churnRisk times customerValue, in currency; null without customerValue.")]
    currency: Annotated[str | None, Meta(description="The request's; null without customerValue, since there are no amounts.")]
    retention_actions: Annotated[
        list[RetentionAction],
        Meta(description="Arms of the model's experiment and rules of configs/retention.yaml, by what they are expected to save."),
    ]
    missing_features: Annotated[
        list[str], Meta(description="The model's features that are not known: absent, null, or a category that training has not seen.")
    ]
    ignored: Ignored
    more_ignored: MoreIgnored
    degradation: Annotated[
        Degradation,
        Meta(description="What the answer does without under load: nothing, its factors, or freshness (a cached answer, see Age)."),
    ]
    as_of: Annotated[datetime, Meta(tz=True, description="The moment of the score.")]
    basis: AnswerBasis = "model"
    model_version: Annotated[str, Meta(description="The model that answered.")]
    timestamp: Annotated[datetime, Meta(tz=True, description="When the score was computed.")]
