"""The socket's side of the house: HTTP in and out, validation, problem details, documentation. Only here are there HTTP statuses."""
