"""Batch jobs: tables and files scored by the engines that answer requests."""
