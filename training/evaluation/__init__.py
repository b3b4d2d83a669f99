"""Evaluation of models: metrics, training curves, Qini coefficients and off-policy values."""
