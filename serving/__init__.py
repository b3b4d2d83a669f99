"""The requests: from a socket to an answer."""
