#!/usr/bin/env bash
# One node of a test cluster, in a network of its own: containerd, kubelet and kube-proxy; see network.sh. NODE is its number.
set -euo pipefail
name=node$NODE address=10.88.0.1$NODE folder=$CLUSTER/node$NODE
mkdir -p "$folder"/{cni,logs,kubelet,containerd/root,containerd/state}
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via 10.88.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
for other in $(seq 1 "$NODES"); do
  [ "$other" = "$NODE" ] || ip route add "10.244.$other.0/24" via "10.88.0.1$other"
done

# The control groups of this node's pods (version 1 or 2).
cgroup=/$CGROUP/$name
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup$cgroup"
  for parent in "" "/$CGROUP" "$cgroup"; do
    echo "+cpu +cpuset +memory +pids +io" >"/sys/fs/cgroup$parent/cgroup.subtree_control"
  done
else
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
    mkdir -p "/sys/fs/cgroup/$controller$cgroup"
  done
  for parent in "/$CGROUP" "$cgroup"; do
    cat /sys/fs/cgroup/cpuset/cpuset.cpus >"/sys/fs/cgroup/cpuset$parent/cpuset.cpus"
    cat /sys/fs/cgroup/cpuset/cpuset.mems >"/sys/fs/cgroup/cpuset$parent/cpuset.mems"
  done
fi

cat >"$folder/cni/10-bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$folder/cni/ipam", "ranges": [[{"subnet": "10.244.$NODE.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "loopback"}]}
JSON
cat >"$folder/containerd.toml" <<TOML
version = 2
root = "$folder/containerd/root"
state = "$folder/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab-standin/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$PROGRAMS/debian/usr/lib/cni"
    conf_dir = "$folder/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $CLUSTER/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $CLUSTER/pki/$name.crt
tlsPrivateKeyFile: $CLUSTER/pki/$name.key
containerRuntimeEndpoint: unix://$folder/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: $cgroup
failCgroupV1: false
failSwapOn: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $CLUSTER/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 4s
podPidsLimit: -1
readOnlyPort: 0
oomScoreAdj: 0
healthzPort: 0
volumePluginDir: $folder/volume-plugins
podLogsDir: /var/log/$name
serializeImagePulls: false
YAML
cat >"$folder/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $CLUSTER/pki/proxy.kubeconfig}
mode: nftables
clusterCIDR: 10.244.0.0/16
hostnameOverride: $name
bindAddress: 0.0.0.0
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
containerd --config "$folder/containerd.toml" >"$folder/logs/containerd.log" 2>&1 &
until [ -S "$folder/containerd.sock" ]; do sleep 0.1; done
for archive in $ARCHIVES; do
  ctr --address "$folder/containerd.sock" --namespace k8s.io images import "$archive" >>"$folder/logs/import.log" 2>&1
done
"$PROGRAMS/bin/kubelet" --config "$folder/kubelet.yaml" --kubeconfig "$CLUSTER/pki/$name.kubeconfig" --hostname-override "$name" \
  --node-ip "$address" --root-dir "$folder/kubelet" --cert-dir "$folder/kubelet/pki" >"$folder/logs/kubelet.log" 2>&1 &
"$PROGRAMS/bin/kube-proxy" --config "$folder/proxy.yaml" >"$folder/logs/proxy.log" 2>&1 &
wait
