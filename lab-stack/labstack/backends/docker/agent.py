"""Add Prometheus' Java agent to the containers of the broker and Connect, from their startup on.

The local backend loads the agent later, because Java can't use its class-data archive with an agent on its command
line. From outside a container, the lab can't load it later.
"""

from __future__ import annotations

from testcontainers.core.container import DockerContainer

from labstack.backends.processes.java import jars
from labstack.config.paths import LabPaths
from labstack.errors import DownloadFailed
from labstack.observability import jmx
from labstack.observability.observers import ObservabilitySettings

PORT = 9404
"""The port on which the agent exposes metrics to the other containers."""

JAR, CONFIGURATION = "/opt/saga-lab/jmx.jar", "/opt/saga-lab/jmx.yml"


def add_agent(container: DockerContainer, context: ObservabilitySettings, component: str) -> str:
    """Make a container's Java expose its MBeans, if the lab has Prometheus.

    Returns
    -------
    str
        The reason if it can't; the container starts without them. Otherwise empty.
    """
    if not context.has_prometheus:
        return ""
    try:
        jar = jars.agent(LabPaths.of_user().cache)
    except DownloadFailed as error:
        return f"{component} exposes no metrics: {error.problem}"
    container.with_copy_into_container(jar.read_bytes(), JAR, 0o644)
    container.with_copy_into_container(jmx.configuration(component).read_bytes(), CONFIGURATION, 0o644)
    container.with_env("KAFKA_OPTS", f"-javaagent:{JAR}={jmx.arguments(f'0.0.0.0:{PORT}', CONFIGURATION)}")
    return ""
