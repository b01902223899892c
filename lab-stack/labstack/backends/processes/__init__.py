"""The local backend: the real programs as plain processes on 127.0.0.1, for machines without Docker."""
