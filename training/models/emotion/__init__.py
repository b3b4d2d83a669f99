"""The emotion model."""
