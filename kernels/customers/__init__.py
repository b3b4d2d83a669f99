"""Counting purchases: how often customers buy again, whether they still do, and what they spend."""
