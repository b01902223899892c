"""The mesh: Istio resources, their translation into Envoy's configuration, and the gateway's control plane."""
