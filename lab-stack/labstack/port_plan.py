"""Give every component of a lab its port, so that no two labs ever meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labstack import ports
from labstack.claims import PortClaims
from labstack.progress import Progress

SHOWN = 3
"""How many replaced ports are named."""


@contextmanager
def planned_ports(
    usual: Mapping[str, int],
    before: Mapping[str, int],
    claims: PortClaims,
    progress: Progress,
    *,
    keep: bool = False,
) -> Iterator[dict[str, int]]:
    """Choose a port for each key, and keep other labs from choosing theirs for the length of the block.

    Parameters
    ----------
    usual : mapping
        The usual number by port name.
    before : mapping
        The numbers of the lab's last start. Each is chosen again unless it is taken, then the usual one.
    claims : PortClaims
        What other labs hold.
    progress : Progress
        Told which usual ports are taken, and by whom, where that is new.
    keep : bool
        Whether to keep `before` even where a port is taken: some components run, and know these ports.
    """
    chosen: dict[str, int] = {}
    replaced: list[str] = []
    with claims.choosing() as others:
        taken: set[int] = set(others)
        for key, number in usual.items():
            if keep and key in before:
                # If somebody has taken it meanwhile, the launch tells.
                chosen[key] = before[key]
                continue
            last = before.get(key, number)
            is_free = last not in taken and ports.is_free(last)
            chosen[key] = last if is_free else ports.choose(number, taken)
            taken.add(chosen[key])
            if chosen[key] not in (number, last):
                # Another lab's part may be stopped just now, and its port is taken all the same.
                who = "another lab" if ports.is_free(number) else ports.who_listens(number)
                replaced.append(f"port {number} ({key}) by {who}")
        if replaced:
            more = f" and {len(replaced) - SHOWN} more" if len(replaced) > SHOWN else ""
            progress.say(f"Taken, so that the lab uses other ports: {', '.join(replaced[:SHOWN])}{more}.")
        yield chosen
