"""`revenue-engine explain`: why two answers differ."""
