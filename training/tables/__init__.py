"""Tables that tasks learn from and score: their fields, their columns and how cells are read."""
