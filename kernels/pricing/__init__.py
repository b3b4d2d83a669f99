"""Demand at a price, and the best price on a ladder."""
