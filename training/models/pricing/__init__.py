"""The pricing model."""
