"""What is learned, from what."""
