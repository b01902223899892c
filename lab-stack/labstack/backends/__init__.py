"""Backends run the components: as local processes, or as Docker containers."""
