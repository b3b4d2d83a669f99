"""Bundles, the registry that keeps them, and where a model is from."""
