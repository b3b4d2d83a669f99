"""Model bundles, the registry that stores them, and their provenance."""
