"""The instructor's control room: break the lab with a button, and heal it."""
