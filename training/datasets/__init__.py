"""Readers of public data sets, and simulated data with known ground truth."""
