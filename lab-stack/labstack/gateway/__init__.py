"""Envoy and its control plane: configuration, administration and the access log."""
