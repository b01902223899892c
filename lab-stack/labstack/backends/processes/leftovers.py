"""Find processes of a lab that its state does not list, such as one whose starter was killed before recording it."""

from __future__ import annotations

import psutil

from labstack.backends.processes import process
from labstack.backends.processes.forking import is_fork_server
from labstack.process_id import ask
from labstack.state import LabState


def leftovers(state: LabState) -> list[psutil.Process]:
    """Return the processes that carry the lab's marker, but are not in its state.

    Parameters
    ----------
    state : LabState
        State of the lab, with its recorded processes.

    Returns
    -------
    list of psutil.Process
        Excludes the children of recorded processes, extension services, the process that installs programs, and the
        fork server of a running lab.
    """
    recorded = [record.process for record in state.components.values() if record.process]
    known = {one.pid for one in recorded if process.alive(one)}
    others = {
        f"{state.lab_id}/{name}" for name in (*map(process.extension_marker, state.extensions), process.OBTAINING)
    }
    found = []
    for one in process.lab_processes(state.lab_id):
        belongs = one.pid in known or known & {parent.pid for parent in ask(one.parents, None) or []}
        if not belongs and process.marker_of(one) not in others and not (known and is_fork_server(one)):
            found.append(one)
    return found
