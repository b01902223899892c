"""The components as local processes."""
