"""The Kubernetes backend: attach the lab to the Helm chart `deploy/saga-lab` on a cluster, through kubectl."""
