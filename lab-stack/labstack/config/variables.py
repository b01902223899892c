"""The environment variables that the lab itself reads.

The services read other variables, which the lab sets for them: `labservices.settings.Settings`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable.

    Attributes
    ----------
    does : str
        The decision that the variable controls.
    values : str
        Its possible values.
    default : str
        The value used if the variable is not set.
    """

    does: str
    values: str
    default: str


VARIABLES = {
    "LAB_NAME": Variable("the lab that a command uses", "letters, digits, `-` and `_`, at most 40", "`default`"),
    "LAB_MODE": Variable(
        "the backend that a start uses",
        "`local`, `containers`, `kubernetes` or `auto`",
        "`auto`: containers if Docker answers, else local",
    ),
    "LAB_CONTROL_PLANE": Variable(
        "the gateway's control plane",
        "`istiod`, `translator` or `auto`",
        "`auto`: istiod if it is installed, else the translator",
    ),
    "LAB_OBSERVABILITY": Variable(
        "whether the lab runs the observability components, such as Prometheus",
        "`auto`, `installed` (nothing is downloaded) or `off`",
        "`auto`: missing programs are downloaded in the background",
    ),
    "LAB_PROGRESS_URL": Variable(
        "where notebooks report the learner's exercises and predictions; set on a hub for a class", "an address", "none"
    ),
    "LAB_IMAGE_NAME": Variable(
        "the image of a component in container mode, such as `LAB_IMAGE_POSTGRES`",
        "an image, with tag or digest",
        "that of `lab-stack/versions.toml`",
    ),
    "LAB_INSTALL_IMAGE_NAME": Variable(
        "the image from which `lab install` extracts a program, such as `LAB_INSTALL_IMAGE_ISTIOD`",
        "an image, with tag or digest",
        "that of `lab-stack/versions.toml`",
    ),
    "LAB_RELAY_POLL_MS": Variable(
        "how often Debezium reads the log while there are no new events; a longer interval uses less processor time, "
        "and events arrive later",
        "milliseconds, from 1 to 1000",
        "4 on Linux, else 20",
    ),
    "LAB_ALLOWED_HOSTS": Variable(
        "the host names, besides localhost, under which browsers may open the lab's pages and APIs",
        "names, separated by commas, or `*`",
        "none; on a hub, all",
    ),
    "LAB_KUBE_NAMESPACE": Variable(
        "the namespace of the installation that `LAB_MODE=kubernetes` attaches to", "a namespace", "`saga-lab`"
    ),
    "LAB_KUBE_CONTEXT": Variable(
        "the context in the kubeconfig for `LAB_MODE=kubernetes`", "a context", "kubectl's current context"
    ),
    "KUBECONFIG": Variable("the configuration of kubectl", "files, separated by colons", "`~/.kube/config`"),
    "DOCKER_HOST": Variable("the Docker engine", "an address", "that of Docker's current context"),
    "DOCKER_CONTEXT": Variable(
        "Docker's context, if DOCKER_HOST is not set", "a name", "the current one of `docker context`"
    ),
    "NO_PROXY": Variable(
        "the hosts to reach without a proxy; the lab adds this machine", "names, separated by commas", "none"
    ),
    "no_proxy": Variable("the same; takes precedence over NO_PROXY", "names, separated by commas", "none"),
    "JAVA_HOME": Variable("the Java for Kafka and Debezium, if no wheel provides one", "a folder", "none"),
    "GOPATH": Variable("where a Go build by `lab install` stores downloads", "a folder", "in the lab's cache"),
    "GOCACHE": Variable("where such a build stores compiled packages", "a folder", "in the lab's cache"),
    "JUPYTERHUB_SERVICE_PREFIX": Variable(
        "the path below which a hub serves the lab's web pages; set by the hub", "a path", "none: not on a hub"
    ),
    "BINDER_SERVICE_HOST": Variable("identifies Binder, which has no Docker; set by Binder", "a host", "none"),
    "BINDER_LAUNCH_HOST": Variable("the same", "a host", "none"),
    "BINDER_REPO_URL": Variable("the same", "an address", "none"),
    "XDG_STATE_HOME": Variable("where labs store their state, data and logs", "a folder", "`~/.local/state`"),
    "XDG_CACHE_HOME": Variable("where downloaded programs are stored", "a folder", "`~/.cache`"),
}
"""All environment variables by name; `NAME` stands for the name of a component or program in capitals."""
