"""The journey model."""
