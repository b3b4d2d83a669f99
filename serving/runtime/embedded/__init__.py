"""Engines that the server starts itself when no address is configured."""
