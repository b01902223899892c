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
    "LAB_NAME": Variable("which of your labs a verb means", "letters, digits, `-` and `_`, at most 40", "`default`"),
    "LAB_MODE": Variable(
        "what a start uses", "`local`, `containers` or `auto`", "`auto`: containers where Docker answers"
    ),
    "LAB_CONTROL_PLANE": Variable(
        "who steers the gateway", "`istiod`, `translator` or `auto`", "`auto`: istiod where it is, else the translator"
    ),
    "LAB_OBSERVABILITY": Variable(
        "whether the lab is watched by Prometheus, Jaeger and Grafana",
        "`auto`, `installed` (nothing is fetched) or `off`",
        "`auto`: what is not on this machine is fetched in the background",
    ),
    "LAB_IMAGE_NAME": Variable(
        "the image of a component in container mode, such as `LAB_IMAGE_POSTGRES`",
        "an image, with tag or digest",
        "that of `lab-stack/versions.toml`",
    ),
    "LAB_INSTALL_IMAGE_NAME": Variable(
        "the image that `lab install` takes a program out of, such as `LAB_INSTALL_IMAGE_ISTIOD`",
        "an image, with tag or digest",
        "that of `lab-stack/versions.toml`",
    ),
    "DOCKER_HOST": Variable("Docker's engine", "its address", "that of Docker's current context"),
    "JAVA_HOME": Variable("a Java to run Kafka and Debezium, where there is no wheel with one", "a folder", "none"),
    "GOPATH": Variable("where a build by `lab install` keeps what Go downloads", "a folder", "in the lab's cache"),
    "GOCACHE": Variable("where such a build keeps what it has compiled", "a folder", "in the lab's cache"),
    "JUPYTERHUB_SERVICE_PREFIX": Variable(
        "below which path a hub shows the lab's web pages; the hub sets it", "a path", "none: a laptop"
    ),
    "BINDER_SERVICE_HOST": Variable("says that this is Binder, which has no Docker; Binder sets it", "a host", "none"),
    "BINDER_LAUNCH_HOST": Variable("the same", "a host", "none"),
    "BINDER_REPO_URL": Variable("the same", "an address", "none"),
    "XDG_STATE_HOME": Variable("where labs keep state, data and logs", "a folder", "`~/.local/state`"),
    "XDG_CACHE_HOME": Variable("where programs are kept that were downloaded", "a folder", "`~/.cache`"),
}
"""All environment variables by name; `NAME` stands for the name of a component or program in capitals."""
