"""Settings, versions, services and paths: what the lab is made of, read from files."""
