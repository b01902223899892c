"""Pause and resume the processes of a container with signals, from a shell inside of it.

The kernel ignores SIGSTOP for process 1 of a PID namespace if it comes from inside. So the chart's pods share one PID
namespace (``shareProcessNamespace``), in which process 1 is Kubernetes' own. CloudNativePG, Strimzi and Istio start
their program as a child of process 1.
"""

from __future__ import annotations

from labstack.backends.kubernetes.kubectl import Kubectl, KubectlFailed
from labstack.backends.kubernetes.workloads import PAUSED, Pod, Workload
from labstack.errors import LabError

SCRIPT = """
signal=$1 process=$2 count=0
for folder in /proc/[0-9]*; do
    pid=${folder#/proc/}
    [ "$pid" = 1 ] || [ "$pid" = $$ ] && continue
    if [ -n "$process" ]; then
        read -r name <"$folder/comm" || continue
        [ "$name" = "$process" ] || continue
    fi
    kill -s "$signal" "$pid" && count=$((count + 1))
done 2>/dev/null
echo "$count"
"""
"""Send a signal to every process that the user may signal, except process 1 and the shell; print their number."""


def pause(kubectl: Kubectl, workload: Workload, pod: Pod) -> None:
    """Pause the processes of a pod, and mark the pod.

    Raises
    ------
    LabError
        The container has no shell, or no process that can be paused.
    """
    if not _signal(kubectl, workload, pod, "STOP"):
        raise LabError(
            f"The pod {pod.name} has no process that can be paused: its program is process 1 of the container.",
            next_step="use `lab stop` or `lab kill`; pods of the current chart can be paused (`helm upgrade`)",
        )
    _annotate(kubectl, pod, f"{PAUSED}={pod.container(workload.container).get('containerID', '')}")


def resume(kubectl: Kubectl, workload: Workload, pod: Pod) -> None:
    """Resume the processes of a pod, and remove the mark."""
    _signal(kubectl, workload, pod, "CONT")
    _annotate(kubectl, pod, f"{PAUSED}-")


def _annotate(kubectl: Kubectl, pod: Pod, change: str) -> None:
    kubectl.run("annotate", "pod", pod.name, change, "--overwrite")


def _signal(kubectl: Kubectl, workload: Workload, pod: Pod, signal: str) -> int:
    command = ["sh", "-c", SCRIPT, "sh", signal, workload.process]
    try:
        return int(kubectl.run("exec", pod.name, f"--container={workload.container}", "--", *command) or 0)
    except KubectlFailed as error:
        if "executable file not found" not in error.reason and "no such file" not in error.reason:
            raise
        raise LabError(
            f"The image of {pod.name} has no shell, so its processes can't be paused.",
            next_step="use `lab stop` or `lab kill`",
        ) from error
