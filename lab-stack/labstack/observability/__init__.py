"""Prometheus, Jaeger and Grafana: their configuration and the choice of them."""
