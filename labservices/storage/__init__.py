"""The database and the schema of a service."""
