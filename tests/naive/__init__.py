"""Slow reference implementations of the kernels, one file for each package: plain Python over one item, written from the definitions."""
