"""How good a model is: metrics, curves, uplift and off-policy values."""
