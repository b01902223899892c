"""The resolved model of Istio documents that the translator reads."""
