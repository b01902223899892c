"""Benchmarks of the lab: how fast it starts, how fast its relay is, and how many orders it carries."""
