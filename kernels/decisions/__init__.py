"""Decisions: bandit probabilities and rule tables."""
