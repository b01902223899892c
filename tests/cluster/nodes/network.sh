#!/usr/bin/env bash
# The first process of a test cluster. It runs in namespaces of its own (network, mounts, processes), so everything ends with it.
# The control plane has the address 10.88.0.1, and node N has 10.88.0.1N. Called by tests/cluster/cluster.py, which sets:
#   CLUSTER      folder of this cluster: certificates, logs, data
#   PROGRAMS     folder of the programs (tests/cluster/programs.py)
#   NODES        number of nodes
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
mount --make-rprivate /
mount -t proc proc /proc

# Logs of pods, sockets of containerd, and addresses of pods would otherwise stay behind on this machine.
mkdir -p "$CLUSTER/var-log" /run/containerd /var/lib/cni
mount --bind "$CLUSTER/var-log" /var/log
mount -t tmpfs tmpfs /run/containerd
mount -t tmpfs tmpfs /var/lib/cni

# The kubelet sets these for the whole machine. In here it reads and writes files instead.
mkdir -p "$CLUSTER/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=$CLUSTER/sysctl/$(echo "${setting%=*}" | tr / _)
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done

ip link set lo up
ip link add br0 type bridge
ip address add 10.88.0.1/24 dev br0
ip link set br0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
: >"$CLUSTER/resolv.conf"
bash "$HERE/control-plane.sh"
for i in $(seq 1 "$NODES"); do
  NODE=$i unshare --net bash "$HERE/node.sh" >"$CLUSTER/logs/node$i.log" 2>&1 &
  node=$!
  until [ -e "/proc/$node/ns/net" ] && [ "$(readlink "/proc/$node/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
  ip link add "veth$i" type veth peer name eth0 netns "$node"
  ip link set "veth$i" master br0 up
  ip route add "10.244.$i.0/24" via "10.88.0.1$i"
done
touch "$CLUSTER/started"
wait
