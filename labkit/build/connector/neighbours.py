"""What else uses Connect in this lab: the judge of step 4 kills it, which must not disturb anything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from labkit.build.workplace import DATABASE
from labkit.errors import KitError, running
from labstack import Lab
from labstack.clients.databases import connect
from labstack.lab import access_of
from labstack.waiting import poll_until

RECENT = "SELECT EXISTS (SELECT FROM orders WHERE updated_at > now() - interval '5 seconds')"
PATIENCE = 10.0
"""Seconds to wait for the end of the orders that are on their way."""


@contextmanager
def alone(lab: Lab) -> Iterator[None]:
    """Run a block in which the judge kills Connect; two of them do not run at once.

    Raises
    ------
    KitError
        Something else uses Connect: another judge, a learner's service, or orders.
    """
    try:
        with FileLock(access_of(lab).paths.state / "build-connector.lock", timeout=0):
            check_unused(lab)
            yield
    except Timeout:
        raise KitError(
            "Another judge of step 4 runs in this lab, and kills Connect.",
            next_step="wait until its cell has ended, then run this cell again",
        ) from None


def check_unused(lab: Lab) -> None:
    """Return if nothing but the judge uses Connect, after a short wait for orders that are on their way.

    Raises
    ------
    KitError
        A learner's service runs, or orders are placed.
    """
    services = [name for name in lab.extensions.names if not name.startswith(DATABASE) and lab.extensions.runs(name)]
    if services:
        raise KitError(
            f"The judge of step 4 kills Connect, which {' and '.join(services)} needs now.",
            next_step=f"let its check end, or stop it (`{services[0]}.stop()` in its notebook, or "
            f"`from labstack import Lab; Lab().extensions.stop({services[0]!r})`), then run this cell again",
        )
    if not poll_until(lambda: not _has_orders(lab), PATIENCE, interval=0.5):
        raise KitError(
            "The judge of step 4 kills Connect, which publishes the events of orders that are placed now.",
            next_step="let the notebook or the load that places orders end, then run this cell again",
        )


def _has_orders(lab: Lab) -> bool:
    """Return whether an order has changed within the last seconds."""
    with connect(running(lab).databases["order"]) as database:
        (found,) = database.execute(RECENT).fetchall()
    return bool(found[0])
