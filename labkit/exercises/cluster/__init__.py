"""The exercises on a Kubernetes cluster."""
