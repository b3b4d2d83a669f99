"""Who asks: the principal of a request, established once and passed along with it."""
