"""The purchase model."""
