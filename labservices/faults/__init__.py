"""Fault switches of the lessons."""
