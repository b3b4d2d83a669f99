"""Answers that are kept for a time: in this process, and in Redis."""
