"""A simulated shop with known truth."""
