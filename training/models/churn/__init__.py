"""The churn model."""
