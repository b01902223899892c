"""What the broker and Connect have in common: Java, its archive, and the agent that shows what is going on in it."""

from __future__ import annotations

from labstack import jmx, ports
from labstack.local import jars
from labstack.local.agent import NotLoaded, load_agent, remove_door
from labstack.local.component import Component, Site


class JavaComponent(Component):
    """A program in Java.

    Parameters
    ----------
    site : Site
        Where the lab runs.
    java_extra : tuple of str
        More flags for Java, such as those of a training run.
    archived : bool
        Whether Java starts from its archive, if there is one.
    """

    def __init__(self, site: Site, java_extra: tuple[str, ...] = (), archived: bool = True) -> None:
        super().__init__(site)
        self._java_extra = java_extra
        self._archived = archived

    def began(self, pid: int) -> None:
        """Show its MBeans to Prometheus, if there is one. Without them it works as well, and TargetDown tells it."""
        self.remark = ""
        port = self.site.ports.get(jmx.port_name(self.name))
        if not self.site.has_prometheus or port is None or not ports.is_free(port):
            return
        try:
            load_agent(
                pid,
                jars.agent(self.site.paths.cache),
                jmx.arguments(f"127.0.0.1:{port}", str(jmx.configuration(self.name))),
            )
        except NotLoaded as error:
            self.remark = f"{self.name} shows no metrics: {error}."

    def ended(self, pid: int) -> None:
        remove_door(pid)
