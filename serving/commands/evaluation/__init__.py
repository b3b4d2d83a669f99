"""`revenue-engine evaluate`, and what other commands need to judge models on a table."""
