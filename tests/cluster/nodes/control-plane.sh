#!/usr/bin/env bash
# etcd, API server, controller manager and scheduler of a test cluster; see network.sh.
set -euo pipefail
cd "$CLUSTER"
run() { # NAME ARGUMENT...: start a program in the background, with a log
  "$PROGRAMS/bin/$1" "${@:2}" >"logs/$1.log" 2>&1 &
}
run etcd --data-dir "$CLUSTER/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 1073741824 \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster default=http://127.0.0.1:2380
run kube-apiserver --etcd-servers http://127.0.0.1:2379 --secure-port 6443 --bind-address 0.0.0.0 --advertise-address 10.88.0.1 \
  --service-cluster-ip-range 10.96.0.0/16 --allow-privileged=true --authorization-mode Node,RBAC \
  --enable-admission-plugins NodeRestriction --client-ca-file pki/ca.crt \
  --tls-cert-file pki/apiserver.crt --tls-private-key-file pki/apiserver.key \
  --kubelet-certificate-authority pki/ca.crt --kubelet-client-certificate pki/kubelet-client.crt \
  --kubelet-client-key pki/kubelet-client.key --service-account-issuer https://kubernetes.default.svc.cluster.local \
  --service-account-key-file pki/sa.pub --service-account-signing-key-file pki/sa.key \
  --requestheader-client-ca-file pki/ca.crt --requestheader-allowed-names front-proxy-client \
  --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
  --requestheader-extra-headers-prefix X-Remote-Extra- --proxy-client-cert-file pki/front-proxy-client.crt \
  --proxy-client-key-file pki/front-proxy-client.key --kubelet-preferred-address-types InternalIP \
  --enable-aggregator-routing=true --profiling=false
server=$!
until "$PROGRAMS/bin/kubectl" --kubeconfig pki/admin.kubeconfig get --raw /readyz >/dev/null 2>&1; do
  kill -0 "$server" || { tail -20 logs/kube-apiserver.log; exit 1; }
  sleep 0.3
done
run kube-controller-manager --kubeconfig pki/controller-manager.kubeconfig --root-ca-file pki/ca.crt \
  --service-account-private-key-file pki/sa.key --use-service-account-credentials --cluster-signing-cert-file pki/ca.crt \
  --cluster-signing-key-file pki/ca.key --allocate-node-cidrs=false --cluster-cidr 10.244.0.0/16 --leader-elect=false \
  --bind-address 127.0.0.1 --node-monitor-grace-period 20s --profiling=false
run kube-scheduler --kubeconfig pki/scheduler.kubeconfig --leader-elect=false --bind-address 127.0.0.1 --profiling=false
