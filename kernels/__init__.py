"""Compiled formulas over arrays: no I/O, no logging, no state."""
