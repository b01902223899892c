"""Live views, charts and pictures."""
