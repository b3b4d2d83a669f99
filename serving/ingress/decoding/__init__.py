"""Request bodies: from JSON to typed columns, with the path of every wrong field."""
