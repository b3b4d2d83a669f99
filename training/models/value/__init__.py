"""The customer value model."""
