"""The container backend: components as containers, through testcontainers."""
