"""Default parameters of customer value, and the reasons for which a part of an answer is left out."""

from typing import Literal

HORIZON_DAYS, DISCOUNT = 365.0, 0.1  # a year, 10 % a year
LEVEL = 0.8  # coverage of the interval
NO_PURCHASE_DAYS = 90.0  # window of the no-purchase risk and its bands, as in Klaviyo

# Why P(alive) of a customer is not known.
NoChurnReason = Literal["no-churn-in-model", "no-repeat-purchase", "insufficient-data"]
