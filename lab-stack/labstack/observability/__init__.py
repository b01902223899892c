"""The observability components, such as Prometheus: their configuration and the choice of them."""
