"""The first cell of every notebook: `lab, shop, look, tasks = begin("01")`."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from labkit.aliases import Aliases
from labkit.client.shop import Shop
from labkit.cluster import SKIPPED, TO_ATTACH, is_on_cluster
from labkit.errors import KitError
from labkit.exercises import ON_CLUSTER, course
from labkit.exercises.tasks import Tasks
from labkit.inspect.look import Look
from labkit.kernel import prepare_kernel
from labkit.restarting import restart_stopped
from labkit.skipping import run_cells, skip_cells
from labkit.status_area import StatusArea
from labstack import Lab
from labstack.arguments import checked
from labstack.errors import LabError, RelayFailed, one_of
from labstack.findings import Finding
from labstack.gateway.choice import NAMES
from labstack.lab import access_of
from labstack.lifecycle import obtaining
from labstack.lifecycle.doctor import examine
from labstack.lifecycle.joining import join_observers
from labstack.lifecycle.status import LabStatus
from labstack.progress import Progress

logging.getLogger("httpx").setLevel(logging.WARNING)


NEEDS = {"09": ("prometheus", "alertmanager"), "10": ("jaeger",)}
"""The observers that a notebook needs.

Without Alertmanager, notebook 09 leaves one section out. Without Jaeger, notebook 10 reads the services' own files.
"""


class Session(NamedTuple):
    """The objects that a notebook works with.

    Attributes
    ----------
    lab : Lab
        Starts, shows, breaks and heals the components.
    shop : Shop
        Sends HTTP requests to the four services.
    look : Look
        Shows databases, topics and the relay.
    tasks : Tasks
        The exercises.
    """

    lab: Lab
    shop: Shop
    look: Look
    tasks: Tasks


@checked
def begin(notebook: str, lab: Lab | None = None) -> Session:
    """Attach to the running lab, start the components that are down, and print the lab's state.

    While an exercise of this notebook is in progress, components that are down stay down, because the exercise may have
    stopped them.

    A notebook that needs a cluster starts nothing if the lab is not on one: all its cells then print one sentence.

    Output that differs between runs (the startup stages, warnings, the number of solved exercises) goes into a separate
    area above the stable text. nbval compares only the area's initial content, which is empty.

    Parameters
    ----------
    notebook : str
        The notebook's number, such as ``01``.
    lab : Lab, optional
        A lab to use instead of the user's.

    Returns
    -------
    Session
        lab, shop, look, tasks.

    Raises
    ------
    KitError
        There is no notebook of that number.
    """
    if notebook not in course():
        raise KitError(f"Unknown notebook {notebook!r}.", next_step=one_of(notebook, course()))
    lab = prepare_kernel(lab)
    aliases = Aliases()
    shop, look = Shop(lab, aliases), Look(lab, aliases)
    tasks = Tasks(lab, shop, look, notebook)
    if notebook in ON_CLUSTER and not is_on_cluster(lab):
        skip_cells(SKIPPED)
        print(f"{SKIPPED}\n{TO_ATTACH}")
        return Session(lab, shop, look, tasks)
    run_cells()
    area, problem = StatusArea(), ""
    status = lab.status(memory=False)
    if not status.healthy:
        area.show("".join(_finding_html(finding) for finding in examine(access_of(lab)) if finding.verdict != "ok"))
        try:
            area.show(area.warnings + _restart_stopped(lab, tasks, status, area))
        except RelayFailed as error:
            # The next step needs `lab`: only a reset, for example, lets a connector start without its lost position.
            next_step = re.sub(r"`lab (up|reset)`", r"`lab.\1()`", error.next_step)
            problem = f"\n{error.problem}\nNext step: {next_step}."
        status = lab.status(memory=False)
    if problem == "" and notebook in NEEDS:
        area.show(area.warnings + _obtain(lab, NEEDS[notebook], area))
    solved, total = tasks.score()
    control_plane = NAMES.get(status.control_plane, "no control plane: this lab has no gateway")
    score = f"Exercises solved in this notebook: {solved} of {total}"
    made, asked = tasks.predicted()
    score += f"; predictions made: {made} of {asked}" if asked else ""
    area.end(f"<small>{score}. The gateway is configured by {control_plane}.</small>")
    print(f"The lab is {status.state}: {_components(lab)}.{problem}")
    return Session(lab, shop, look, tasks)


def _restart_stopped(lab: Lab, tasks: Tasks, status: LabStatus, area: StatusArea) -> str:
    """Start components that are down, unless an exercise of this notebook is in progress; return a report as HTML."""
    in_progress = tasks.in_progress()
    if in_progress and status.state == "degraded":
        stopped = ", ".join(f"{name} ({what})" for name, what in status.complaints.items())
        message = (
            f"The exercise {in_progress[0]} is in progress, so nothing was started again: {stopped}. "
            f'`tasks.cleanup("{in_progress[0]}")` ends the exercise, `lab.up()` starts every part.'
        )
    else:
        restarted = restart_stopped(lab, area.stages)
        message = f"Started again: {', '.join(restarted)}." if restarted and status.state == "degraded" else ""
    return f"<div>△ {html.escape(message)}</div>" if message else ""


def _obtain(lab: Lab, programs: Sequence[str], area: StatusArea) -> str:
    """Install the programs that a notebook needs, and return a report of problems as HTML."""
    before = area.warnings
    absent = obtaining.wait_for(
        access_of(lab), programs, lambda how: area.show(f"{before}<div>{html.escape(how)}</div>")
    )
    if not absent:
        join_observers(access_of(lab), Progress())  # observers installed by hand since the start
    area.warnings = before
    lines = [
        f"△ {name} is not installed: {why.splitlines()[0].rstrip('.:')}. Run `lab install {name}` to see why."
        for name, why in absent.items()
    ]
    components = lab.status(memory=False).components
    for name in set(programs) - set(absent):
        if name in components and components[name].state != "running":
            try:
                lab.start(name)
            except LabError as error:
                lines.append(f"△ {name} does not start: {error.problem} {error.next_step}")
    return "".join(f"<div>{html.escape(line)}</div>" for line in lines)


def _components(lab: Lab) -> str:
    names = list(lab.endpoints.services)
    return f"{len(names)} services ({', '.join(names)}), {len(names)} databases, Debezium, Kafka and the gateway"


def _finding_html(finding: Finding) -> str:
    sign = "✗" if finding.verdict == "problem" else "△"
    text = f"{sign} {finding.check}: {finding.seen}"
    return f"<div>{html.escape(text)}{'. ' + html.escape(finding.advice) if finding.advice else ''}</div>"
