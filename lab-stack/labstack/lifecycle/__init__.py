"""Startup, reset, status and diagnosis of a lab."""
