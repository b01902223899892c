"""Container mode: components as containers, through testcontainers."""
