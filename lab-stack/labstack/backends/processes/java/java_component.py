"""Base class of the broker and Connect: Java, its class-data archive, and the agent that exposes its metrics."""

from __future__ import annotations

from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.java import jars
from labstack.backends.processes.java.agent import NotLoaded, load_agent, remove_attach_socket
from labstack.observability import jmx
from labstack.ports import free as ports


class JavaComponent(Component):
    """A component that runs in Java.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    java_extra : tuple of str
        More flags for Java, such as those of a training run.
    archived : bool
        Whether Java loads its class-data archive, if there is one.
    """

    def __init__(self, context: Context, java_extra: tuple[str, ...] = (), archived: bool = True) -> None:
        super().__init__(context)
        self._java_extra = java_extra
        self._archived = archived

    def on_ready(self, pid: int) -> None:
        """Expose MBeans to Prometheus, if the lab has one.

        If the agent can't be loaded, the component still works, and the alert TargetDown reports the missing metrics.
        """
        self.remark = ""
        port = self.context.ports.get(jmx.port_name(self.name))
        if not self.context.has_prometheus or port is None or not ports.is_free(port):
            return
        try:
            load_agent(
                pid,
                jars.agent(self.context.paths.cache),
                jmx.arguments(f"127.0.0.1:{port}", str(jmx.configuration(self.name))),
            )
        except NotLoaded as error:
            self.remark = f"{self.name} exposes no metrics: {error}."

    def on_exit(self, pid: int) -> None:
        remove_attach_socket(pid)
