"""Components shared by several models: trees, calibration, missing features, folds."""
