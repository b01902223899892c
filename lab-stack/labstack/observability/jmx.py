"""Prometheus' agent for Java, which exposes the broker's and Connect's MBeans as metrics."""

from __future__ import annotations

from pathlib import Path

from labstack.config.paths import CONFIG


def port_name(component: str) -> str:
    """Return the name of the port on which a component's agent serves its metrics."""
    return f"{component}-metrics"


def configuration(component: str) -> Path:
    """Return the file that defines which MBeans of a component are exposed, and under which names."""
    return CONFIG / component / "jmx.yml"


def arguments(listen: str, configuration: str) -> str:
    """Return the argument string of the agent.

    Parameters
    ----------
    listen : str
        Address and port of its metrics endpoint.
    configuration : str
        Path of its configuration, as the Java process sees it.

    Notes
    -----
    Source: the manual of Prometheus' JMX exporter, "Java agent".
    """
    return f"{listen}:{configuration}"
