"""The mesh: Istio's YAML, what becomes of it in Envoy, and who steers."""
