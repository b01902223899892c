"""The build track: the learner writes a service in five steps, and a judge does to it what production does.

from labkit.build import begin_step
step = begin_step("outbox")
"""

from __future__ import annotations

import importlib

from labkit.build.step import FOLDER, BuildStep, Task
from labkit.errors import KitError
from labkit.kernel import prepare_kernel
from labkit.restarting import restart_stopped
from labkit.status_area import StatusArea
from labstack import Lab
from labstack.arguments import checked
from labstack.errors import one_of

STEPS = ("outbox", "consumer", "compensation", "connector", "orchestrator")
"""The steps in their order; each has a module of its name, which defines TASK."""


def task(name: str) -> Task:
    """Return the task of a step.

    Raises
    ------
    KitError
        There is no step of that name.
    """
    if name not in STEPS:
        raise KitError(f"There is no step {name!r}.", next_step=one_of(name, STEPS))
    found: Task = importlib.import_module(f"labkit.build.{name}").TASK
    return found


@checked
def begin_step(name: str, lab: Lab | None = None) -> BuildStep:
    """Attach to the running lab, start the components that are down, and return a step of the build track.

    The folder of the learner's files is created.

    Parameters
    ----------
    name : str
        The step's name, such as ``outbox``.
    lab : Lab, optional
        A lab to use instead of the user's.

    Raises
    ------
    KitError
        There is no step of that name.
    """
    found = task(name)
    FOLDER.mkdir(exist_ok=True)
    lab = prepare_kernel(lab)
    area = StatusArea()
    if not lab.status(memory=False).healthy:
        restart_stopped(lab, area.stages)
    area.end()
    step = BuildStep(lab, found)
    print(f"The lab is ready. {step.file.as_posix()} gets an empty database, Kafka and Connect.")
    return step


__all__ = ["STEPS", "begin_step"]
