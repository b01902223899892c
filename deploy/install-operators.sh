#!/usr/bin/env bash
# Install the operators that deploy/saga-lab needs into the cluster of the current context, in the versions of
# lab-stack/versions.toml. Each in its own namespace. `install-operators.sh keda` installs KEDA, too.
# Not run here: no cluster with internet access was available during development.
set -euo pipefail

kubectl apply --server-side -f https://raw.githubusercontent.com/cloudnative-pg/cloudnative-pg/release-1.28/releases/cnpg-1.28.0.yaml

helm upgrade --install strimzi oci://quay.io/strimzi-helm/strimzi-kafka-operator --version 1.2.0 \
  --namespace strimzi --create-namespace --set watchAnyNamespace=true

# Without the CNI plugin each sidecar needs NET_ADMIN, which Pod Security `restricted` refuses.
helm repo add --force-update istio https://istio-release.storage.googleapis.com/charts
helm upgrade --install istio-base istio/base --version 1.29.1 --namespace istio-system --create-namespace
helm upgrade --install istio-cni istio/cni --version 1.29.1 --namespace istio-system
helm upgrade --install istiod istio/istiod --version 1.29.1 --namespace istio-system --set pilot.cni.enabled=true

kubectl create namespace monitoring --dry-run=client --output yaml | kubectl apply -f -
curl -sSfL https://github.com/prometheus-operator/prometheus-operator/releases/download/v0.85.0/bundle.yaml \
  | sed 's/namespace: default/namespace: monitoring/' | kubectl apply --server-side -f -

if [ "${1:-}" = keda ]; then
  helm repo add --force-update kedacore https://kedacore.github.io/charts
  helm upgrade --install keda kedacore/keda --version 2.20.2 --namespace keda --create-namespace
fi

kubectl --namespace cnpg-system rollout status deployment --timeout 10m
kubectl --namespace strimzi rollout status deployment --timeout 10m
kubectl --namespace istio-system rollout status deployment --timeout 10m
kubectl --namespace monitoring rollout status deployment --timeout 10m
