"""The resolved model of Istio documents, which the checks and the translator read. It depends only on the documents."""
