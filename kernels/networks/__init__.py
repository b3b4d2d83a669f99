"""Recurrent networks over sessions."""
