"""Prometheus metrics: the series, and how they are collected from the processes of a node."""
