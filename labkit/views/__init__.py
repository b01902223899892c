"""What moves while one looks at it."""
