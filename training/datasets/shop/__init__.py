"""A simulated shop with known ground truth."""
