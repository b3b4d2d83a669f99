"""Tables to learn from: which column is which field, and how cells are read."""
