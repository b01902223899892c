"""Benchmarks of the lab: its startup time, the latency of its relay, and the number of orders that it sustains."""
