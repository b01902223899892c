"""Preflight checks: find problems on this machine that could affect a lab, and advise how to fix each."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable

import psutil

from labstack.backends import connect_watcher
from labstack.backends.access import LabAccess
from labstack.backends.choice import Mode, ModeChoice, checked_mode, choose_mode
from labstack.backends.processes.components.envoy import Envoy, find_envoy
from labstack.backends.processes.components.postgres import programs
from labstack.backends.processes.identity import for_postgres
from labstack.backends.processes.java import jars
from labstack.backends.processes.java.java import find_java
from labstack.backends.processes.leftovers import leftovers
from labstack.config.paths import LabPaths, writable_folder
from labstack.config.services import ServiceEntry
from labstack.errors import LabError
from labstack.findings import NEEDED_DISK, NEEDED_MEMORY, Finding
from labstack.gateway.choice import NAMES, choose_control_plane
from labstack.lifecycle.status import unfinished
from labstack.observability.observers import NAMES as NAMES_OF_OBSERVERS
from labstack.observability.observers import choose_observers, is_observed
from labstack.ports import free as ports
from labstack.state import StateStore


def examine(access: LabAccess) -> list[Finding]:
    """Check everything that a startup needs.

    This changes nothing, except that it creates the folders for the lab's state and cache if they are missing.

    Parameters
    ----------
    access : LabAccess
        Access to the lab. A requested backend counts only if the lab is stopped.

    Returns
    -------
    list of Finding
        One for each check, in a fixed order.
    """
    paths = access.paths
    checks: list[tuple[str, Callable[[], Finding]]] = [("Python", _python)]
    findings = []
    try:
        choice = _backend_choice(paths, access.wanted_mode)
        findings.append(Finding("mode", "ok", str(choice)))
        checks += _backend_checks(choice.mode, paths)
    except LabError as error:
        findings.append(Finding("mode", "problem", error.problem, error.next_step))
    checks += [
        ("disk", lambda: _disk(paths)),
        *([] if "cluster" in dict(checks) else [("ports", lambda: _ports(paths, access.services))]),
        ("datasets", _datasets),
    ]
    for name, check in checks:
        try:
            findings.append(check())
        except LabError as error:
            findings.append(Finding(name, "problem", error.problem, error.next_step))
    return findings


def _backend_choice(paths: LabPaths, wanted: str | None) -> ModeChoice:
    state = StateStore(paths).read()
    if state.phase != "stopped":
        return ModeChoice(checked_mode(state.mode), "the running lab uses it")
    return choose_mode(wanted)


def _backend_checks(mode: Mode, paths: LabPaths) -> list[tuple[str, Callable[[], Finding]]]:
    if mode == "kubernetes":
        return _cluster_checks(paths)
    return _container_checks() if mode == "containers" else _process_checks(paths)


def _cluster_checks(paths: LabPaths) -> list[tuple[str, Callable[[], Finding]]]:
    from labstack.backends.kubernetes import checks

    return [
        ("cluster", lambda: checks.cluster(paths)),
        ("installation", lambda: checks.installation(paths)),
        ("rights", lambda: checks.rights(paths)),
        ("ports", lambda: checks.broker_port(paths)),
    ]


def _process_checks(paths: LabPaths) -> list[tuple[str, Callable[[], Finding]]]:
    return [
        ("Java", _java),
        ("PostgreSQL", lambda: _postgres(paths)),
        ("gateway", lambda: _gateway(paths)),
        ("observability", lambda: _observability(paths)),
        ("memory", _memory),
        ("cache", lambda: _cache(paths)),
        ("leftovers", lambda: _leftovers(paths)),
    ]


def _container_checks() -> list[tuple[str, Callable[[], Finding]]]:
    # Docker's client takes a while to import, so it is imported only where it is needed.
    from labstack.backends.docker import checks

    return [
        ("Docker", checks.docker),
        ("images", checks.images),
        ("memory", checks.memory),
        ("leftovers", checks.leftovers),
    ]


def _python() -> Finding:
    version = platform.python_version()
    if sys.platform == "win32":
        return Finding(
            "Python",
            "problem",
            f"{version} on Windows",
            "run the lab in WSL 2; see docs/installing.md",
        )
    return Finding("Python", "ok", f"{version} in {sys.prefix}")


def _java() -> Finding:
    java = find_java()
    return Finding("Java", "ok", f"Java {java.version} ({java.program})")


def _postgres(paths: LabPaths) -> Finding:
    folder = programs()
    account = for_postgres(folder / "postgres", paths.state / "data")
    return Finding("PostgreSQL", "ok", f"{folder}, runs {account.description}")


def _gateway(paths: LabPaths) -> Finding:
    envoy = find_envoy()
    return Finding("gateway", "ok", f"Envoy ({envoy}), configured by {NAMES[choose_control_plane('local', paths)]}")


def _observability(paths: LabPaths) -> Finding:
    if not is_observed():
        return Finding("observability", "ok", "off: set by LAB_OBSERVABILITY")
    installed = choose_observers("local", paths)
    wanted = [name for name in NAMES_OF_OBSERVERS if name not in installed]
    seen = f"installed: {', '.join(installed) or 'none'}; not installed: {', '.join(wanted) or 'none'}"
    # The only install source of Grafana is its image, and the notebooks draw its dashboards themselves.
    if needed := [name for name in wanted if name != "grafana"]:
        advice = f"for metrics, alerts and traces, run {' and '.join(f'`lab install {name}`' for name in needed)}"
        return Finding("observability", "warning", seen, advice)
    return Finding("observability", "ok", seen)


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    seen = f"{available / 1e9:.1f} GB available"
    if available < NEEDED_MEMORY:
        advice = "close other programs: the lab needs about 1 GB, JupyterLab with a notebook 0.3 GB"
        return Finding("memory", "warning", seen, advice)
    return Finding("memory", "ok", seen)


def _disk(paths: LabPaths) -> Finding:
    for folder in (paths.state, paths.cache):
        writable_folder(folder)
    free = shutil.disk_usage(paths.state).free
    seen = f"{free / 1e9:.1f} GB free below {paths.state}"
    if free < NEEDED_DISK:
        advice = "free 1.5 GB, or set XDG_STATE_HOME and XDG_CACHE_HOME to folders on a larger disk"
        return Finding("disk", "warning", seen, advice)
    return Finding("disk", "ok", seen)


def _cache(paths: LabPaths) -> Finding:
    bad = jars.damaged(paths.cache)
    if not bad:
        return Finding("cache", "ok", f"all {len(jars.JARS)} jars are present and have the right checksums")
    if len(bad) == len(jars.JARS):
        advice = "run `lab up` or `lab prefetch` to download 50 MB"
        return Finding("cache", "warning", "Kafka and Debezium are not downloaded yet", advice)
    return Finding(
        "cache",
        "warning",
        f"{len(bad)} of {len(jars.JARS)} jars are missing or damaged, such as {bad[0]}",
        "run `lab prefetch` to download them again",
    )


def _ports(paths: LabPaths, services: tuple[ServiceEntry, ...]) -> Finding:
    own = set(StateStore(paths).read().ports.values())
    usual = {"kafka": 9092, "connect": 8083, connect_watcher.NAME: connect_watcher.USUAL_PORT, **Envoy.ports}
    for service in services:
        usual |= {service.name: service.port, service.database: service.database_port}
    taken = {n: p for n, p in usual.items() if p not in own and not ports.is_free(p)}
    if not taken:
        return Finding("ports", "ok", "all default ports are free or used by this lab")
    seen = ", ".join(f"{port} ({name}) is taken by {ports.who_listens(port)}" for name, port in taken.items())
    return Finding("ports", "warning", seen, "no action needed: the lab uses other ports, and `lab status` shows them")


def _datasets() -> Finding:
    from labservices import datasets
    from labstack.config.paths import DATASETS

    try:
        counts = {
            "products": len(datasets.load_products(DATASETS)),
            "customers": len(datasets.load_customers(DATASETS)),
            "destinations": len(datasets.load_destinations(DATASETS)),
        }
    except (datasets.DatasetError, OSError) as error:
        return Finding(
            "datasets", "problem", str(error), "fix these rows, or restore them with `git checkout datasets/`"
        )
    return Finding("datasets", "ok", ", ".join(f"{count} {name}" for name, count in counts.items()))


def _leftovers(paths: LabPaths) -> Finding:
    state = StateStore(paths).read()
    found = leftovers(state)
    if found:
        seen = f"{len(found)} processes that are not in the lab's state, such as pid {found[0].pid}"
        return Finding("leftovers", "warning", seen, "run `lab up` or `lab down` to stop them")
    if left := unfinished(state):
        return Finding("leftovers", "warning", *left)
    return Finding("leftovers", "ok", "none")
