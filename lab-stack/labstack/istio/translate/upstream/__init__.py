"""Envoy clusters and their endpoints."""
