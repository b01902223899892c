"""Assign a port to every component of a lab, without conflicts between labs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from labstack.ports import free as ports
from labstack.ports.reservations import PortReservations
from labstack.progress import Progress

SHOWN = 3
"""Number of replaced ports that the message names."""


@contextmanager
def planned_ports(
    usual: Mapping[str, int],
    before: Mapping[str, int],
    reservations: PortReservations,
    progress: Progress,
    *,
    keep: bool = False,
) -> Iterator[dict[str, int]]:
    """Choose a port for each key, and keep other labs from choosing ports until the block ends.

    Parameters
    ----------
    usual : mapping
        Usual port number by port name.
    before : mapping
        Port numbers of the lab's last start. A number that is taken is replaced by the usual one, or by any free one.
    reservations : PortReservations
        The port reservations of other labs.
    progress : Progress
        Receives a message about usual ports that are taken, with the program that holds each, unless the lab keeps the
        other ports of its last start; and a message if this lab must wait for another.
    keep : bool
        Whether to keep `before` even if a port is taken, because running components already use these ports.

    Yields
    ------
    dict of str to int
        The chosen number by port name.
    """
    chosen: dict[str, int] = {}
    replaced: list[str] = []
    with reservations.choosing(progress.report) as others:
        taken: set[int] = set(others)
        for key, number in usual.items():
            if keep and key in before:
                # If another program has taken the port meanwhile, the launch reports it.
                chosen[key] = before[key]
                continue
            last = before.get(key, number)
            is_free = last not in taken and ports.is_free(last)
            chosen[key] = last if is_free else ports.choose(number, taken)
            taken.add(chosen[key])
            if chosen[key] not in (number, last):
                # A free port can still be reserved by another lab whose component is stopped.
                who = "another lab" if ports.is_free(number) else ports.who_listens(number)
                replaced.append(f"port {number} ({key}) by {who}")
        if replaced:
            more = f" and {len(replaced) - SHOWN} more" if len(replaced) > SHOWN else ""
            progress.report(f"The lab uses other ports, because some are taken: {', '.join(replaced[:SHOWN])}{more}.")
        yield chosen


def other_ports(before: Mapping[str, int]) -> dict[str, int]:
    """Return another random free port for each key.

    Another lab that starts at this moment takes the usual ports one after the other, so a free one may be its next.
    """
    taken = set(before.values())
    chosen: dict[str, int] = {}
    for key, number in before.items():
        chosen[key] = ports.choose_other(number, taken)
        taken.add(chosen[key])
    return chosen
