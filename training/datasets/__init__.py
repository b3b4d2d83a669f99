"""One reader for each public data set, and a simulated shop with known truth."""
