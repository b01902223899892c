"""The Docker network of one lab, in which each component keeps its address."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from labstack.backends.docker.engine import engine, translate_errors
from labstack.errors import LabError

FIRST_ADDRESS = 10
"""Offset of the first component's address in the network; the engine uses those before it."""


class Network:
    """The network of one lab.

    Parameters
    ----------
    lab_id : str
        Id of the lab.
    labels : mapping of str to str
        Labels of everything that the lab creates in the engine.
    """

    def __init__(self, lab_id: str, labels: Mapping[str, str]) -> None:
        self.name = f"saga-lab-{lab_id}"
        self._labels = dict(labels)

    def create(self) -> None:
        """Create the network, unless it exists.

        Raises
        ------
        LabError
            The engine did not create it.
        """
        with translate_errors("the lab's network can't be created"):
            networks = engine().networks
            if networks.list(names=[f"^{self.name}$"]):
                return
            # A container keeps its address only in a network with an explicit address range. So create any network
            # first, to learn a range that the engine considers free, then create one with that range.
            for _ in range(5):
                trial = networks.create(self.name, driver="bridge", labels=self._labels)
                trial.reload()
                subnet = trial.attrs["IPAM"]["Config"][0]["Subnet"]
                trial.remove()
                pool = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
                with contextlib.suppress(APIError):  # another network has taken it meanwhile
                    networks.create(self.name, driver="bridge", labels=self._labels, ipam=pool)
                    return
            raise LabError(
                "Docker did not create a network for the lab.", next_step="run `lab up` again, or use LAB_MODE=local"
            )

    def address(self, number: int) -> str:
        """Return the IP address of the component with this number. It never changes."""
        with translate_errors("the lab's network can't be inspected"):
            network = engine().networks.list(names=[f"^{self.name}$"])[0]
            subnet = ipaddress.ip_network(network.attrs["IPAM"]["Config"][0]["Subnet"])
        return str(subnet[FIRST_ADDRESS + number])
