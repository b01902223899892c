"""Inspection of databases, topics, traces and metrics."""
