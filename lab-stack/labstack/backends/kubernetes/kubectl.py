"""kubectl, the program through which the lab reaches a cluster, and its errors in the lab's form.

Each call names the cluster that the lab is attached to. So a verb in another shell reaches the same cluster, even if
that shell has another KUBECONFIG.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labstack.config import environment
from labstack.errors import ClusterUnavailable, LabError, NotRunning, ProgramMissing

DEFAULT_NAMESPACE = "saga-lab"
TIMEOUT = 30.0
"""Seconds after which a request to the cluster times out."""

CREDENTIAL_VARIABLES = re.compile(
    r"(AWS|AZURE|AAD|ARM|CLOUDSDK|GOOGLE|GKE|USE_GKE|OCI|DIGITALOCEAN|HCLOUD)_\w+|KUBERNETES_SERVICE_(HOST|PORT)"
    r"|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)"
)
"""The caller's variables that kubectl and its credential plugins read, besides KUBECONFIG."""

NOWHERE = "127.0.0.1:0"
"""Where kubectl looks for a cluster if no kubeconfig names one. Its default, port 8080, is the gateway of a local lab.

Source: ``getDefaultServer`` in https://github.com/kubernetes/client-go/blob/master/tools/clientcmd/client_config.go
"""

UNREACHABLE = re.compile(
    r"was refused|no such host|i/o timeout|no route to host|network is unreachable|TLS handshake timeout|"
    r"connection reset|deadline exceeded|Client\.Timeout|x509|service unavailable|EOF$",
    re.I,
)
REFUSED = re.compile(r"\(Forbidden\)|is forbidden|\(Unauthorized\)|must be logged in")
NOT_CONFIGURED = re.compile(
    r"context was not found|^context .* does not exist|no context exists|invalid configuration|current-context is not"
)


@dataclass(frozen=True)
class Cluster:
    """The cluster and the namespace that a lab is attached to.

    Attributes
    ----------
    namespace : str
        Namespace of the installation.
    context : str
        Context in the kubeconfig; empty for its current one, or inside of a pod.
    kubeconfig : str
        Value of KUBECONFIG; empty for kubectl's default.
    """

    namespace: str = DEFAULT_NAMESPACE
    context: str = ""
    kubeconfig: str = ""

    @classmethod
    def requested(cls) -> Cluster:
        """Return the cluster that the environment variables request."""
        files = [file for file in os.environ.get("KUBECONFIG", "").split(os.pathsep) if file]
        return cls(
            os.environ.get("LAB_KUBE_NAMESPACE") or DEFAULT_NAMESPACE,
            os.environ.get("LAB_KUBE_CONTEXT") or "",
            os.pathsep.join(os.path.abspath(file) for file in files),
        )

    def __str__(self) -> str:
        return f"namespace {self.namespace}" + (f", context {self.context}" if self.context else "")


class Kubectl:
    """kubectl for one namespace of one cluster.

    Parameters
    ----------
    cluster : Cluster
        The cluster and the namespace.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def command(self) -> list[str]:
        """The program and the options of every call, which also stand in the advice for users.

        Raises
        ------
        ProgramMissing
            PATH has no kubectl.
        """
        program = shutil.which("kubectl")
        if program is None:
            raise ProgramMissing(
                "There is no kubectl on PATH, and the lab reaches a cluster only through it.",
                next_step="install kubectl (https://kubernetes.io/docs/tasks/tools/), or set LAB_MODE=local",
            )
        context = [f"--context={self.cluster.context}"] if self.cluster.context else []
        return [program, *context, f"--namespace={self.cluster.namespace}"]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that kubectl and its credential plugins get in addition."""
        kept = {name: value for name, value in os.environ.items() if CREDENTIAL_VARIABLES.fullmatch(name)}
        given = {"KUBECONFIG": self.cluster.kubeconfig} if self.cluster.kubeconfig else {}
        return {**kept, "KUBERNETES_MASTER": f"http://{NOWHERE}", **given}

    def run(self, *arguments: str, text: str | None = None, timeout: float = TIMEOUT) -> str:
        """Run kubectl to its end, and return its standard output.

        Parameters
        ----------
        *arguments : str
            The verb and its arguments.
        text : str, optional
            Standard input.
        timeout : float
            Seconds.

        Raises
        ------
        ProgramMissing
            PATH has no kubectl.
        ClusterUnavailable
            The cluster does not answer, is not configured, or refuses the request.
        LabError
            kubectl reports another error.
        """
        argv = [*self.command, *arguments]
        try:
            done = environment.run(argv, timeout=timeout, own=self.variables, text=text)
        except subprocess.TimeoutExpired:
            raise ClusterUnavailable(
                f"The cluster did not answer `kubectl {arguments[0]}` within {timeout:.0f} s ({self.cluster}).",
                next_step="check the connection with `kubectl get pods`, then run the command again",
            ) from None
        except OSError as error:
            raise ProgramMissing(
                f"{argv[0]} can't be started: {error.strerror or error}.", next_step="install kubectl again"
            ) from error
        if done.returncode:
            raise self._error(arguments, done.stderr)
        return done.stdout

    def json(self, *arguments: str, text: str | None = None) -> Any:
        """Run kubectl with ``--output=json``, and return the parsed output."""
        return json.loads(self.run(*arguments, "--output=json", text=text) or "{}")

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that ``kubectl get`` finds."""
        found = self.json("get", *arguments)
        items: list[dict[str, Any]] = found.get("items", [found] if "metadata" in found and "kind" in found else [])
        return items

    @contextlib.contextmanager
    def stream(self, *arguments: str, errors: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
        """Run kubectl in the background while the block runs, and yield the process, whose output is a pipe."""
        child = self.popen(*arguments, output=subprocess.PIPE, errors=errors)
        try:
            yield child
        finally:
            child.terminate()
            if child.stdout:
                child.stdout.close()
            child.wait()

    def popen(self, *arguments: str, output: int, errors: int) -> subprocess.Popen[str]:
        """Start kubectl, and return the process."""
        marker = {name: os.environ[name] for name in (MARKER,) if name in os.environ}
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            env=environment.clean({**self.variables, **marker}),
        )

    def _error(self, arguments: Sequence[str], stderr: str) -> LabError:
        lines = [line for line in stderr.splitlines() if line.strip() and not re.match(r"[EIW]\d{4} |Warning:", line)]
        reason = (lines or stderr.splitlines() or ["it gave no reason"])[-1].removeprefix("error: ").rstrip(".?")
        if NOWHERE in reason or NOT_CONFIGURED.search(reason):
            why = "no kubeconfig names a current cluster" if NOWHERE in reason else reason
            return ClusterUnavailable(
                f"kubectl has no cluster: {why}.",
                next_step="set KUBECONFIG to the file of your cluster, and LAB_KUBE_CONTEXT to one of "
                "`kubectl config get-contexts`, unless its current context is the right one",
            )
        if UNREACHABLE.search(reason):
            return ClusterUnavailable(
                f"The cluster does not answer: {reason}.",
                next_step="check that the cluster runs and that `kubectl get pods` reaches it",
            )
        if REFUSED.search(reason) and "denied the request" not in reason:  # an admission webhook rejects the object
            return ClusterUnavailable(
                f"The cluster refuses `kubectl {' '.join(arguments[:2])}`: {reason}.",
                next_step=f"ask the cluster's administrator for the right in the namespace {self.cluster.namespace}",
            )
        return KubectlFailed(
            f"`kubectl {' '.join(arguments[:3])}` failed: {reason}.",
            next_step="look at `lab status` and `kubectl get events`, then run the command again",
            reason=reason,
        )


def not_attached() -> NotRunning:
    """Return the error of a request to the cluster before the lab is attached to it."""
    return NotRunning("The lab is not attached to a cluster.", next_step="run `lab up`")


class KubectlFailed(LabError):
    """kubectl reports an error about the request itself.

    Parameters
    ----------
    problem : str
        What failed, and what was seen.
    next_step : str
        What to do about it.
    reason : str
        kubectl's message.
    """

    def __init__(self, problem: str, *, next_step: str, reason: str) -> None:
        super().__init__(problem, next_step=next_step)
        self.reason = reason


MARKER = "SAGA_LAB"
"""The variable through which the lab finds its processes (`labstack.backends.processes.process`)."""
