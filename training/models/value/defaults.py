"""What the value of a customer is about where nobody says otherwise."""

HORIZON_DAYS, DISCOUNT = 365.0, 0.1  # a year, 10 % a year
LEVEL = 0.8  # of the interval
QUIET_DAYS = 90.0  # no purchase for so long is what a risk band is about, as with Klaviyo
