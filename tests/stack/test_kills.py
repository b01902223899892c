"""A crash of any component while orders are in flight loses none of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil
import pytest

from labstack.waiting import poll_until, wait_until
from tests.stack.labs import LabHarness
from tests.stack.orders import Customer


def test_crash_of_a_component_loses_no_order(shared: LabHarness, killed_component: str) -> None:
    """After `kill -9` of a component during 100 orders, and `lab start`, each order ends as the stream expects."""
    lab = shared.lab
    lab.reset()
    pid = shared.pids()[killed_component]
    customer = Customer(lab).start()
    try:
        assert wait_until(lambda: len(customer.placed) >= 40, 30)
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: shared.state_of(killed_component) == "failed", 5)
        # Some orders are placed, or rejected, during the outage.
        poll_until(lambda: len(customer.placed) >= 60 or customer.refused, 10)
        shared.run_checked("start", killed_component)
        customer.wait()
        customer.assert_all_ended_as_expected()
    finally:
        customer.stop()
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 20, interval=0.1)


@pytest.mark.long
def test_orders_end_as_expected_after_all_processes_freeze(shared: LabHarness) -> None:
    """If all processes freeze during orders and resume after a while, the orders end as expected."""
    lab = shared.lab
    lab.reset()
    customer = Customer(lab).start()
    processes = shared.processes()
    try:
        assert wait_until(lambda: len(customer.placed) >= 30, 30)
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's autovacuum workers start and exit
                process.suspend()
        # The customer still runs, and gets no response.
        assert wait_until(lambda: customer.refused > 0, 20)
        assert lab.status(memory=False).state == "degraded"
        resume_all(processes)
        customer.wait()
        customer.assert_all_ended_as_expected()
    finally:
        resume_all(processes)
        customer.stop()
    assert wait_until(lambda: lab.status(memory=False).state == "ready", 30, interval=0.1)


def resume_all(processes: list[psutil.Process]) -> None:
    """Resume all processes that still exist."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()
