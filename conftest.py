"""Pytest hooks that select, schedule and report the tests, and manage their labs.

The hooks delegate to :mod:`tests.suite`. They also serve ``pytest --nbval notebooks/``, which leaves the lab as it
was: running or stopped.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.suite import evidence, schedule, selection
from tests.suite.report import ProgressReport
from tests.suite.seconds import Seconds, write
from tools.scratch_folder import scratch_folder

if TYPE_CHECKING:
    from labstack import Lab

# Let failed assertions in the suites' helper modules show their values.
_SUITES = [folder.name for folder in (Path(__file__).parent / "tests").iterdir() if folder.is_dir()]
pytest.register_assert_rewrite(*(f"tests.{name}" for name in _SUITES if name not in ("suite", "__pycache__")))

_observability = pytest.StashKey[str | None]()
_own_state = pytest.StashKey[str]()
_progress = pytest.StashKey[ProgressReport]()
_folders = pytest.StashKey[ExitStack]()


NBVAL = {
    "nbval_sanitize_with": str(Path(__file__).parent / "tests" / "nbval_sanitize.cfg"),
    "nbval_cell_timeout": 120.0,
    "nbval_current_env": True,
}
"""Defaults for the comparison of notebooks, so that ``pytest --nbval notebooks/`` needs no other option."""


def pytest_configure(config: pytest.Config) -> None:
    """Set a separate lab for each worker, and a separate state folder for the run."""
    for name, value in NBVAL.items():
        # Without the plugin, these options do not exist. Options on the command line take precedence.
        if getattr(config.option, name, value) in (None, False, 2000):
            setattr(config.option, name, value)
    if getattr(config.option, "nbval", False):
        config.stash[_folders] = ExitStack()
        _run_without_learners_files(config.stash[_folders])
    config.stash[_observability] = os.environ.get("LAB_OBSERVABILITY")
    worker = getattr(config, "workerinput", None)
    if worker:
        os.environ["LAB_NAME"] = f"{os.environ.get('LAB_NAME') or 'test'}-{worker['workerid']}"
    elif not getattr(config.option, "nbval", False) and not {"LAB_NAME", "XDG_STATE_HOME"} & set(os.environ):
        # A manual pytest run must not touch the user's lab either.
        config.stash[_own_state] = os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="saga-lab-pytest-")
    if not worker and config.getoption("dist", "no") != "no" and os.environ.get("SAGA_LAB_CHECK"):
        config.stash[_progress] = ProgressReport(config, Seconds.read())
        config.pluginmanager.register(config.stash[_progress], "saga-lab-progress")


def _run_without_learners_files(folders: ExitStack) -> None:
    """Start each notebook's kernel in a separate folder, because learners keep their files beside the notebooks."""
    plugin: Any = importlib.import_module("nbval.plugin")
    kernel = plugin.RunningKernel

    def start(name: str, cwd: str, **more: Any) -> Any:
        return kernel(name, cwd=str(folders.enter_context(scratch_folder(Path(cwd)))), **more)

    plugin.RunningKernel = start


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folders of this run. If SAGA_LAB_RECORD is set, record the duration of each test."""
    if folders := config.stash.get(_folders, None):
        folders.close()
    if folder := config.stash.get(_own_state, None):
        del os.environ["XDG_STATE_HOME"]
        shutil.rmtree(folder, ignore_errors=True)
    if (progress := config.stash.get(_progress, None)) and os.environ.get("SAGA_LAB_RECORD"):
        write(progress.took)


@pytest.hookimpl(wrapper=True)  # a wrapper runs before xdist's own hook, which reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Select the tests of this run, and group them by the lab that they share."""
    seconds = Seconds.read()
    chosen = selection.choose(items, config.args, seconds)
    config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
    schedule.limit_time(chosen)
    worker = getattr(config, "workerinput", {})
    groups = schedule.arrange(chosen, seconds, worker.get("workercount", 1))
    if worker:
        for name, tests in groups:
            for test in tests:
                test.add_marker(pytest.mark.xdist_group(name))
        items[:] = [test for _, tests in groups for test in tests]
    else:
        items[:] = sorted(chosen, key=lambda test: schedule.pool_of(test) or "")
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the environment of the test's lab, and skip a test or notebook whose program is not available."""
    schedule.set_environment(item, item.config.stash[_observability])
    if schedule.is_cell(item):
        schedule.note_course_lab()
    schedule.skip_without_programs(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Stop a shared lab after the last test of its group, even if a fixture fails to clean up."""
    try:
        return (yield)
    finally:
        schedule.release_labs(item, nextitem)


@pytest.hookimpl(tryfirst=True)  # after Ctrl-C, the teardown of another fixture can fail
def pytest_sessionfinish() -> None:
    """Stop the labs that Ctrl-C prevented from being stopped after their last test."""
    schedule.release_all_labs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add evidence to the report of a failed test: a cell's stderr, and the logs of components that do not run."""
    report = yield
    if report.failed:
        report.sections.extend(evidence.sections(item))
    return report


@pytest.fixture
def course_lab() -> Iterator[Lab]:
    """Yield the lab named by LAB_NAME, with its observers. A lab that a test starts is stopped after the group.

    A test finds no extension service in it and leaves none: the next one may kill what such a service needs.
    """
    lab = schedule.start_course_lab()
    lab.extensions.remove_all()
    yield lab
    lab.extensions.remove_all()
