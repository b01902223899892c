"""Clients of Kafka, Connect, PostgreSQL, Envoy and HTTP."""
