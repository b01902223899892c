"""Give every component of a lab its port, so that no two labs ever meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labstack import ports
from labstack.claims import PortClaims
from labstack.progress import Progress


@contextmanager
def planned_ports(
    usual: Mapping[str, int], kept: Mapping[str, int], claims: PortClaims, progress: Progress
) -> Iterator[dict[str, int]]:
    """Choose a port for each key, and keep other labs from choosing theirs for the length of the block.

    Parameters
    ----------
    usual : mapping
        The usual number by port name: taken where it is free.
    kept : mapping
        Ports that stay as they are, whoever listens: the lab's other parts know them.
    claims : PortClaims
        What other labs hold.
    progress : Progress
        Told where a usual port is taken, and by whom.
    """
    chosen: dict[str, int] = {}
    with claims.choosing() as others:
        taken: set[int] = set(others)
        for key, number in usual.items():
            if key in kept:
                # If somebody has taken it meanwhile, the launch tells.
                chosen[key] = kept[key]
                continue
            chosen[key] = ports.choose(number, taken)
            taken.add(chosen[key])
            if chosen[key] != number:
                # Another lab's part may be stopped just now, and its port is taken all the same.
                who = "another lab" if ports.is_free(number) else ports.who_listens(number)
                progress.say(f"port {number} of {key} is taken by {who}; using {chosen[key]}")
        yield chosen
