"""Prometheus' agent for Java, which shows the broker's and Connect's MBeans as metrics."""

from __future__ import annotations

from pathlib import Path

from labstack.paths import CONFIG


def port_name(component: str) -> str:
    """Return the name of the port at which a component's agent shows its metrics."""
    return f"{component}-metrics"


def configuration(component: str) -> Path:
    """Return which of a component's MBeans are shown, and under which names."""
    return CONFIG / component / "jmx.yml"


def arguments(listen: str, configuration: str) -> str:
    """Return what the agent is told when it is loaded.

    Parameters
    ----------
    listen : str
        Address and port at which it shows the metrics.
    configuration : str
        Its configuration, as the Java process finds it.

    Notes
    -----
    Source: the manual of Prometheus' JMX exporter, "Java agent".
    """
    return f"{listen}:{configuration}"
