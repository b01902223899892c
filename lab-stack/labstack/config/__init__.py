"""Settings, versions, services and paths, read from files."""
