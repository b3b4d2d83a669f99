"""Processes and sockets: what starts, places, checks and replaces the replicas."""
