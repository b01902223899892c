"""Orders under faults: every order reaches its expected outcome, and no invariant is violated."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.stack.chaos import RECOVERY_SECONDS, can_mount
from tests.stack.crowd import RETRY_SECONDS
from tests.stack.faults import DISK_FULL, INSTANT_FAULTS, OUTAGES, fault_rounds
from tests.stack.labs import ROOT
from tests.suite.chance import LONG, SEED

ORDERS = int(os.environ.get("SAGA_LAB_SOAK_ORDERS") or 10_000) if LONG else 300
RATE = 8.0 if LONG else 6.0
"""Orders per second. At 10, two cores are busy all the time, and a backlog drains slowly."""
FAULT_EVERY = 10.0
DISK = 3000 if LONG else 1500
"""Megabytes: enough for the soak's data, and few enough to be filled in a second."""
TIMEOUT = 180 + ORDERS / RATE * 1.5 + RETRY_SECONDS + 6 * RECOVERY_SECONDS


def test_every_kind_of_fault_occurs_in_each_round() -> None:
    """A round of faults has every kind for every target, a full disk included, and the seed determines it."""
    length = sum(map(len, (*OUTAGES.values(), *INSTANT_FAULTS.values())))
    faults = fault_rounds(7, fills_disk=True)
    round_ = [next(faults) for _ in range(length + 3)]
    wanted = {(kind, target) for kind, targets in {**OUTAGES, **INSTANT_FAULTS}.items() for target in targets}
    assert {(fault.kind, fault.target) for fault in round_} == {*wanted, (DISK_FULL, "disk")}
    again = fault_rounds(7, fills_disk=True)
    assert [next(again) for _ in round_] == round_


@pytest.mark.long
@pytest.mark.timeout(TIMEOUT + 60)
def test_soak_ends_without_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    """A soak with a fault every ten seconds ends without complaints from customers, books or referee."""
    disk = ["--disk", str(DISK)] if can_mount() else []
    words = ["--orders", str(ORDERS), "--rate", str(RATE), "--fault-every", str(FAULT_EVERY), "--seed", str(SEED)]
    command = [sys.executable, "-m", "tests.stack.chaos", *words, *disk]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    faults = re.search(r"^(\d+) faults", done.stdout, re.MULTILINE)
    assert faults
    assert int(faults[1]) >= ORDERS / RATE / (2 * FAULT_EVERY)
