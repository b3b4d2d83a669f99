"""Sessions: event columns, features and friction."""
