"""Refusals before parsing, when more requests arrive than can be answered in time."""
