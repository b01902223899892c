"""Prometheus' agent in the containers of the broker and Connect, from their start on.

In local mode it is loaded later, since it costs Java its start-up archive; in a container nobody but the program itself
could load it.
"""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack import jmx
from labstack.errors import DownloadFailed
from labstack.local import jars
from labstack.observers import Watched
from labstack.paths import LabPaths

PORT = 9404
"""Where it shows the metrics, to the other containers."""

JAR, CONFIGURATION = "/opt/saga-lab/jmx.jar", "/opt/saga-lab/jmx.yml"


def add_agent(container: DockerContainer, site: Watched, component: str) -> str:
    """Let a container's Java show its MBeans, if there is a Prometheus.

    Returns
    -------
    str
        Why it shows none; it starts all the same. Empty otherwise.
    """
    if not site.has_prometheus:
        return ""
    try:
        jar = jars.agent(LabPaths.of_user().cache)
    except DownloadFailed as error:
        return f"{component} shows no metrics: {error.problem}"
    container.with_copy_into_container(jar.read_bytes(), JAR, 0o644)
    container.with_copy_into_container(jmx.configuration(component).read_bytes(), CONFIGURATION, 0o644)
    container.with_env("KAFKA_OPTS", f"-javaagent:{JAR}={jmx.arguments(f'0.0.0.0:{PORT}', CONFIGURATION)}")
    return ""
