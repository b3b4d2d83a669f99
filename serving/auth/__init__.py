"""The principal of a request, established once and passed along with it."""
