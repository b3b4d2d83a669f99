"""What several models have in common: trees, calibration, missing features, folds."""
