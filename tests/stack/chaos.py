"""The soak test: orders of all outcomes at a steady rate, one fault after another, then rest, and the referee.

    python -m tests.stack.chaos --orders 10000 --rate 12 --fault-every 10 --seed 7

The faults are listed in `tests.stack.faults.Fault`. The disk is filled only if this process may mount a separate one,
which takes root on Linux. Beside the referee, the customers compare each order with what they were told, and
`tests.stack.arithmetic` calculates the stock and the accounts from the orders.

It starts a separate lab, and stops it at the end. The seed chooses the faults, but not the moment of the saga in which
each occurs, so the same seed may have another result. A failure leaves everything for its analysis in
``evidence/SEED``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from labstack import Lab, LabError
from labstack.clients import broker
from labstack.consistency import InvariantVerdict
from labstack.lab import access_of
from labstack.waiting import poll_until
from tests.stack.arithmetic import book_differences, open_books
from tests.stack.crowd import Customers
from tests.stack.faults import FaultInjector, fault_rounds
from tests.stack.labs import ROOT, LabHarness
from tests.stack.orders import all_orders
from tests.stack.test_reset import table_rows

DISK = "SAGA_LAB_SOAK_DISK"
"""The environment variable with the folder on which the small disk is mounted."""

RECOVERY_SECONDS = 60.0
"""Seconds after the last fault is healed within which every order must be terminal."""

CHECK_INTERVAL = 20.0
"""Minimum number of seconds between two checks of the invariants while orders run."""

CHECK_SHARE = 0.1
"""Maximum share of the time that these checks take: each reads every row and record, which would slow the lab down."""

FORBIDDEN_LOG_WORDS = ("Traceback", "can't be handled", "the consumer failed", "internal-error")
"""Words that a service's log must not contain, whatever the fault."""


@dataclass
class Report:
    """The results of a soak."""

    seed: int
    orders: int
    rate: float
    load_seconds: float = 0.0
    faults: list[tuple[float, str]] = field(default_factory=list)
    longest_pause: float = 0.0
    ready_after: float | None = None
    terminal_after: float | None = None
    retries: int = 0
    checks: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return a summary of a few lines."""
        kinds = Counter(what.split()[0] for _, what in self.faults)
        after = {"all components ready": self.ready_after, "every order terminal": self.terminal_after}
        lines = [
            f"seed {self.seed}: {self.orders} orders in {self.load_seconds:.0f} s, {self.retries} calls made again",
            f"{len(self.faults)} faults ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}), "
            f"never more than {self.longest_pause:.1f} s from one to the next",
            *(
                f"{what} {f'{s:.1f} s' if s is not None else 'not at all'} after the healing"
                for what, s in after.items()
            ),
            f"outcomes: {', '.join(f'{n} {outcome}' for outcome, n in self.outcomes.items())}",
            f"figures: {', '.join(f'{name} {n}' for name, n in self.figures.items())}; {self.checks} checks meanwhile",
            *(f"COMPLAINT: {complaint}" for complaint in self.complaints[:40]),
            f"{len(self.complaints)} complaints",
        ]
        return "\n".join(lines)


def soak(
    harness: LabHarness,
    orders: int,
    rate: float,
    every: float,
    seed: int,
    report_fault: Callable[[str], None] = lambda _: None,
    filler: Path | None = None,
) -> Report:
    """Run a soak on a running lab.

    Parameters
    ----------
    harness : LabHarness
        Harness of the lab.
    orders, rate
        Number of orders, and orders per second.
    every : float
        Seconds between the starts of two faults.
    seed : int
        Seed for the choice of the faults, and of the cancelled orders.
    report_fault : callable, optional
        Called with a line for each fault.
    filler : Path, optional
        File that may fill the lab's disk; by default, the disk is never full.
    """
    lab = harness.lab
    report = Report(seed, orders, rate)
    customers = Customers(lab, orders, rate, seed)
    books = open_books(lab, customers.names)
    customers.start()
    injector = FaultInjector(lab, harness.home / "kept-logs", filler)
    began = time.monotonic()
    faults, next_fault = fault_rounds(seed, fills_disk=filler is not None), began + min(1.0, every)
    arguments = (lab, report, lambda: customers.is_done)
    referee = threading.Thread(target=check_repeatedly, args=arguments, daemon=True)
    referee.start()
    while not customers.is_done:
        injector.heal()
        now = time.monotonic()
        if now >= next_fault and injector.inject(fault := next(faults)):
            next_fault = now + every
            report_fault(f"{now - began:7.1f} s  {customers.placed:6d} orders  {fault}")
        time.sleep(0.05)
    report.faults = [(round(at - began, 1), str(fault)) for at, fault in injector.done]
    times = [began, *(at for at, _ in injector.done), time.monotonic()]
    report.longest_pause = max(later - earlier for earlier, later in itertools.pairwise(times))
    report.load_seconds, report.retries = customers.seconds, customers.retries
    report_fault(f"{report.load_seconds:7.1f} s  every customer has an answer; all faults are healed now")
    poll_until(lambda: not injector.heal(everything=True), RECOVERY_SECONDS, interval=0.2)
    referee.join()  # a paused database would keep it waiting
    measure_recovery(lab, customers, report)
    report.complaints += [f"{crash}: it died by itself" for crash in injector.crashes]
    report.complaints += [f"not healed: {what}" for what in injector.heal()]
    report.complaints += customers.complaints()
    report.outcomes = customers.outcomes()
    check_invariants(lab, report)
    report.complaints += [f"the books: {what}" for what in book_differences(lab, books, all_orders(lab))]
    report.complaints += forbidden_log_lines(lab, injector.logs)
    return report


def check_repeatedly(lab: Lab, report: Report, is_over: Callable[[], bool]) -> None:
    """Check the invariants that must always hold, unless a component that the check queries is unavailable."""
    pause = CHECK_INTERVAL
    while not poll_until(is_over, pause, interval=0.2):
        began = time.monotonic()
        with contextlib.suppress(LabError):
            record_violations(lab.check(), report, "while orders ran")
            report.checks += 1
        pause = max(CHECK_INTERVAL, (time.monotonic() - began) / CHECK_SHARE)


def measure_recovery(lab: Lab, customers: Customers, report: Report) -> None:
    """Measure the time until all components are ready, and until every order is terminal."""
    healed = time.monotonic()

    def is_over() -> bool:
        now = time.monotonic() - healed
        if report.ready_after is None and lab.status(memory=False).state == "ready":
            report.ready_after = now
        if report.terminal_after is None:
            with contextlib.suppress(psycopg.Error):
                report.terminal_after = now if customers.unfinished() == 0 else None
        return None not in (report.ready_after, report.terminal_after)

    poll_until(is_over, 3 * RECOVERY_SECONDS, interval=0.2)
    if report.ready_after is None:
        report.complaints.append(f"not ready after {3 * RECOVERY_SECONDS:.0f} s: {lab.status(memory=False).complaints}")
    if report.terminal_after is None or report.terminal_after > RECOVERY_SECONDS:
        report.complaints.append(f"orders not terminal within {RECOVERY_SECONDS:.0f} s")


def check_invariants(lab: Lab, report: Report) -> None:
    """Check all invariants, and whether any record was dead-lettered."""
    try:
        verdicts = lab.check(wait_for_rest=RECOVERY_SECONDS)
        letters = lab.dead_letters.all()
    except LabError as error:
        report.complaints.append(f"the referee can't judge: {error}")
        return
    record_violations(verdicts, report, "at rest")
    report.complaints += [f"open: {verdict.name}" for verdict in verdicts if verdict.holds is None]
    report.complaints += [f"dead letter {letter.id}: {letter.type}: {letter.error}" for letter in letters]
    figures = {name: number for verdict in verdicts for name, number in verdict.figures.items()}
    report.figures = {name: figures[name] for name in ("outbox_rows", "records", "expected", "inbox_rows", "twice")}


def record_violations(verdicts: list[InvariantVerdict], report: Report, when: str) -> None:
    """Record the violated invariants as complaints."""
    for verdict in verdicts:
        if verdict.holds is False:
            report.complaints.append(f"violated {when}: {verdict.name} by {verdict.offenders[:20]} {verdict.figures}")


def forbidden_log_lines(lab: Lab, kept: Path) -> list[str]:
    """Return the lines that must not be in the services' logs, including those of earlier processes."""
    found = []
    for log in sorted([*kept.glob("*.log"), *(access_of(lab).paths.state / "logs").glob("*.log")]):
        if log.name.split(".")[0] in lab.endpoints.services:
            lines = log.read_text(errors="replace").splitlines()
            found += [
                f"{log.name}: {line[:300]}" for line in lines if any(word in line for word in FORBIDDEN_LOG_WORDS)
            ]
    return found


def save_evidence(harness: LabHarness, report: Report) -> Path:
    """Copy report, logs, rows and records into a folder for analysis, and return the folder."""
    folder = ROOT / "evidence" / str(report.seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(asdict(report), indent=1))
    for logs in (harness.home / "kept-logs", harness.paths.state / "logs"):
        with contextlib.suppress(OSError):
            shutil.copytree(logs, folder / logs.name)
    lab = harness.lab
    parts: dict[str, Callable[[], Any]] = {
        "status.json": lambda: lab.status().to_json(),
        "verdicts.json": lambda: [asdict(verdict) for verdict in lab.check()],
        "rows.json": lambda: table_rows(lab),
        "records.json": lambda: [
            {**asdict(record), "value": (record.value or b"").decode(errors="replace")}
            for record in broker.read_all(
                lab.endpoints.kafka, [f"{s}.{kind}" for s in lab.endpoints.services for kind in ("events", "dlq")]
            )
        ],
    }
    for name, collect in parts.items():
        try:
            content = json.dumps(collect(), indent=1, default=str)
        except Exception as error:  # whatever is broken, keep the rest of the evidence
            content = json.dumps({"could not be collected": repr(error)})
        (folder / name).write_text(content)
    return folder


def can_mount() -> bool:
    """Report whether this process may mount a disk in a separate namespace."""
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(probe, capture_output=True).returncode == 0


def run_with_disk(megabytes: int, words: list[str]) -> int:
    """Run this program with a small disk that is mounted for it alone, and return its exit status."""
    with tempfile.TemporaryDirectory(prefix="saga-lab-disk-") as folder:
        script = f'mount -t tmpfs -o size={megabytes}m none "${DISK}" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "tests.stack.chaos", *words]
        soak = subprocess.Popen(command, env={**os.environ, DISK: folder}, cwd=ROOT)
        try:
            return soak.wait()
        finally:
            soak.terminate()
            soak.wait()


def stop_once(*_: object) -> None:
    """Exit on SIGTERM, which stops the lab, too; a second SIGTERM must not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main() -> int:
    """Run a soak from the command line; return exit status 1 if there are complaints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=12, help="orders in a second")
    parser.add_argument("--fault-every", type=float, default=10, help="seconds between the beginnings of two faults")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--disk", type=int, default=0, metavar="MB", help="size of the lab's disk; 0: it is never full")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, stop_once)
    if arguments.disk and DISK not in os.environ:
        return run_with_disk(arguments.disk, sys.argv[1:])
    print(f"seed {arguments.seed} (repeat with --seed {arguments.seed})", flush=True)
    disk = Path(os.environ[DISK]) if DISK in os.environ else None
    harness = LabHarness("chaos", home=disk)
    try:
        harness.lab.up()
        report = soak(
            *(harness, arguments.orders, arguments.rate, arguments.fault_every, arguments.seed),
            report_fault=lambda line: print(line, flush=True),
            filler=disk / "filler" if disk else None,
        )
        print(report.summary())
        if report.complaints:
            print(f"evidence: {save_evidence(harness, report)}")
        return 1 if report.complaints else 0
    finally:
        harness.close()


if __name__ == "__main__":
    sys.exit(main())
