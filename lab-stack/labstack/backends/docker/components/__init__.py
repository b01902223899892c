"""The components as Docker containers."""
