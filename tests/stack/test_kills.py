"""A crash of any part in the middle of orders loses none of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

from labstack.waiting import wait_until
from tests.stack.labs import Grounds
from tests.stack.orders import Customer


def test_a_crash_loses_no_order(shared: Grounds, victim: str) -> None:
    """`kill -9` of a component in the middle of 100 orders, then `lab start`: each ends as the stream expects."""
    lab = shared.lab
    lab.reset()
    pid = shared.pids()[victim]
    customer = Customer(lab).begin()
    try:
        assert wait_until(lambda: len(customer.placed) >= 40, 30)
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: shared.state_of(victim) == "failed", 5)
        # Orders meet the gap, or are refused in it.
        wait_until(lambda: len(customer.placed) >= 60 or customer.refused, 10)
        shared.must("start", victim)
        customer.wait()
        customer.assert_all_ended_as_expected()
    finally:
        customer.go()
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 20, interval=0.1)


def test_a_machine_that_slept(shared: Grounds) -> None:
    """All processes frozen in the middle of orders, and woken after a while: the orders go on to their end."""
    lab = shared.lab
    lab.reset()
    customer = Customer(lab).begin()
    family = shared.processes()
    try:
        assert wait_until(lambda: len(customer.placed) >= 30, 30)
        for process in family:
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's autovacuum comes and goes
                process.suspend()
        # The customer is awake, and finds that nobody answers.
        assert wait_until(lambda: customer.refused > 0, 20)
        assert lab.status(memory=False).state == "degraded"
        wake(family)
        customer.wait()
        customer.assert_all_ended_as_expected()
    finally:
        wake(family)
        customer.go()
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 30, interval=0.1)


def wake(family: list[psutil.Process]) -> None:
    """Let all go on that there still are."""
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.resume()
