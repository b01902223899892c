"""The test suite's own rules: every long test runs in some sample, and tests that share a lab stay on one worker."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from labstack.waiting import wait_until
from tests.containers.engine import SOCKET, SOCKET_LENGTH, engine
from tests.containers.test_in_containers import SHORT
from tests.suite import schedule
from tests.suite.report import repeat_command, suite_of
from tests.suite.schedule import group_seconds
from tests.suite.seconds import UNKNOWN, Seconds, plain_id, summarize
from tools.check import (
    MEMORY_FILES,
    NAMED,
    PREFIX,
    SUITES,
    command,
    kill_leftovers,
    memory_suffices,
    parse,
    remove_dead_runs,
    runs_beside,
    started_by,
    suites_of,
    workers,
)

Run = Callable[..., set[str]]
ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.long
@pytest.mark.parametrize("number", range(7))
def test_long(number): pass

def test_short(): pass
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs seven long tests and a short one as the suite does, and returns those that passed."""
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)

    def run(*names: str, **environment: str) -> set[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_LAB_", "PYTEST_"))}
        kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing every plugin takes four seconds
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
        command += ["-p", "conftest", "-p", "pytest_timeout", "-p", "xdist.plugin"]
        command += ["-c", "pyproject.toml", "--rootdir", str(tmp_path)]
        done = subprocess.run(
            [*command, *(f"{file}{name}" for name in names or [""])],
            env={**kept, "XDG_STATE_HOME": str(tmp_path)} | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        on_workers = re.findall(r"(\[gw\d\]) \[ *\d+%\] PASSED \S+::(\S+)", done.stdout)
        return {" ".join(pair) for pair in on_workers} or set(re.findall(r"::(\S+) PASSED", done.stdout))

    return run


def test_short_form_skips_long_tests(run: Run) -> None:
    """The short form runs only short tests, and long tests that the command line names."""
    assert run() == {"test_short"}
    assert run("::test_long[3]") == {"test_long[3]"}


def test_long_form_runs_every_test(run: Run) -> None:
    """With SAGA_LAB_LONG, all eight tests run."""
    assert len(run(SAGA_LAB_LONG="1")) == 8


def test_successive_samples_reach_every_long_test(run: Run) -> None:
    """With three consecutive seeds, samples of 0.6 s run each long test of 0.2 s once, and no short test."""
    samples = [run(SAGA_LAB_SAMPLE="0.0101", SAGA_LAB_SEED=str(seed)) for seed in (739946, 739947, 739948)]
    assert sorted(map(len, samples)) == [1, 3, 3]
    assert set.union(*samples) == {f"test_long[{number}]" for number in range(7)}


def test_the_tests_of_a_group_run_on_one_worker(run: Run) -> None:
    """With two workers, the tests of one file, which form one group, run on the same worker."""
    passed = run(SAGA_LAB_LONG="1", PYTEST_ADDOPTS="-n 2 --dist loadgroup --no-loadscope-reorder")
    assert len({line.partition(" ")[0] for line in passed}) == 1
    assert len(passed) == 8


def test_a_group_takes_half_of_a_workers_share() -> None:
    """Few labs are started: a group takes half of a worker's share of the run, at least 2.5 and at most 7.5 minutes."""
    assert [group_seconds(total, 3) for total in (60, 2400, 36000)] == [150, 400, 450]
    assert group_seconds(2400, 1) > group_seconds(2400, 8)


@pytest.mark.parametrize(
    ("nodeid", "plain"),
    [
        ("tests/a.py::test_x@lab 1", "tests/a.py::test_x"),
        ("tests/a.py::test_x[a@b]@lab 1", "tests/a.py::test_x[a@b]"),
        ("tests/a.py::test_x[a@b]", "tests/a.py::test_x[a@b]"),
        ("notebooks/01.ipynb::Cell 3", "notebooks/01.ipynb::Cell 3"),
    ],
)
def test_group_suffix_is_removed_from_node_ids(nodeid: str, plain: str) -> None:
    """Only the suffix that xdist appends to a node id is removed."""
    assert plain_id(nodeid) == plain


def test_seconds_are_recorded_by_test_or_by_file() -> None:
    """A slow test keeps its own seconds, the other tests of its file share a mean, and unknown files have a default."""
    took = {"a.py::slow": 7.04, "a.py::one": 0.2, "a.py::two": 0.4}
    recorded = summarize(took, {"b.py": 1.5, "a.py": 9.0})
    assert recorded == {"a.py": 0.3, "a.py::slow": 7.0, "b.py": 1.5}
    seconds = Seconds(recorded)
    assert [seconds.of(f"{name}@a group") for name in ("a.py::slow", "a.py::two", "b.py::x", "c.py::x")] == [
        *(7.0, 0.3, 1.5, UNKNOWN)
    ]


def test_a_failure_names_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command names the seed and the test, or the whole notebook, since a cell needs the cells above it."""
    monkeypatch.setenv("SAGA_LAB_SEED", "7")
    assert repeat_command("tests/a.py::test_x[a b]") == "python3 start.py test 'tests/a.py::test_x[a b]' --seed 7"
    assert repeat_command("notebooks/01.ipynb::Cell 3") == "python3 start.py test 'notebooks/01.ipynb' --seed 7"


def test_suites_are_the_folders_of_tests() -> None:
    """A test belongs to the suite of its folder, and a notebook's cell to the notebooks."""
    assert suite_of("tests/stack/test_a.py::test_x") == "stack"
    assert suite_of("notebooks/instructor/room.ipynb::Cell 3") == "notebooks"


def test_an_interrupted_session_stops_every_shared_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a session, each shared lab that still runs is stopped once."""
    stopped: list[str] = []
    running = {pool: (lambda pool=pool: stopped.append(pool)) for pool in (schedule.PLAIN, schedule.COURSE)}
    monkeypatch.setattr(schedule, "releases", running)
    schedule.release_all_labs()
    schedule.release_all_labs()
    assert sorted(stopped) == sorted([schedule.PLAIN, schedule.COURSE])


def test_all_processes_of_a_run_are_stopped() -> None:
    """A run is stopped with all processes that it started, including those that it starts meanwhile."""
    run = f"test-{os.getpid()}"
    starter = "import subprocess, time\nfor _ in range(600): subprocess.Popen(['sleep', '60']); time.sleep(0.02)"
    environment = {**os.environ, "SAGA_LAB_CHECK": run}
    with subprocess.Popen([sys.executable, "-c", starter], env=environment, start_new_session=True):
        assert wait_until(lambda: len(started_by(run)) > 3, 20)
        assert len(kill_leftovers(run)) > 3
        assert started_by(run) == []


def test_the_suite_containers_runs_container_mode_if_it_is_named() -> None:
    """If the command line names the suite, it runs each of its files, and container mode by its node id.

    So container mode runs even while it is ``long``, because its images are not built.
    """

    def paths(*words: str) -> list[str]:
        arguments = argparse.Namespace(what=list(words), long=False, sample=None)
        return [word for word in command(arguments, 2) if word.startswith(("tests/", "notebooks"))]

    assert paths("containers", "lint") == [*NAMED["containers"], "tests/lint"]
    assert paths() == [path for suite in SUITES.values() for path in suite]
    assert [f"tests/containers/test_in_containers.py::test_container_mode[{name}]" for name in SHORT] == [
        path for path in NAMED["containers"] if "::" in path
    ]
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "containers").glob("test_*.py")}
    assert {path.partition("::")[0] for path in NAMED["containers"]} == files


@pytest.mark.parametrize(
    ("words", "suites"),
    [
        (["tests/stack/test_reset.py::test_reset", "mesh"], ["mesh", "stack"]),
        (["notebooks/03-compensations.ipynb"], ["notebooks"]),
        ([], list(SUITES)),
    ],
)
def test_only_the_named_suites_are_prepared(words: list[str], suites: list[str]) -> None:
    """A run of a file or a test downloads only what the suites of these files need."""
    assert suites_of(words) == suites


def test_runs_at_the_same_time_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run on this machine is counted while a process of it lives; it and other load leave a run fewer tests."""
    before = runs_beside("this-run")
    sleep = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(
        sleep, env={**os.environ, "SAGA_LAB_CHECK": f"{os.getpid()}-1"}, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline()
        assert runs_beside("this-run") == before + 1
        other.kill()
    assert runs_beside("this-run") == before
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=24e9))
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: 10.0)
    assert [workers(beside) for beside in range(4)] == [3, 1, 1, 1]
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: 50.0)
    assert [workers(beside) for beside in range(4)] == [2, 1, 1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file system in memory")
@pytest.mark.parametrize(
    ("words", "variable", "available", "beside", "in_memory"),
    [
        ([], None, 9e9, 0, True),
        (["stack", "tests/mesh/test_model.py"], None, 9e9, 0, True),
        ([], None, 8e9, 0, False),
        ([], None, 9e9, 1, False),
        ([], "/tmp", 9e9, 0, False),
        (["--long"], None, 9e9, 0, False),
        (["--sample", "5"], None, 9e9, 0, False),
        (["containers"], None, 9e9, 0, False),
        (["tests/cluster/test_room.py"], None, 9e9, 0, False),
    ],
)
def test_files_of_a_short_run_are_in_memory_if_memory_suffices(
    words: list[str],
    variable: str | None,
    available: float,
    beside: int,
    in_memory: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The temporary files of a run are in memory unless they are too large, or TMPDIR names a folder."""
    monkeypatch.delenv("TMPDIR", raising=False)
    if variable:
        monkeypatch.setenv("TMPDIR", variable)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr("os.access", lambda *_: True)
    found = SimpleNamespace(f_bavail=10**10, f_frsize=1, f_flag=0)
    monkeypatch.setattr("os.statvfs", lambda _: found)
    monkeypatch.setattr("sys.argv", ["tools/check.py", *words])
    assert memory_suffices(parse(), 2, beside) == in_memory
    found.f_flag = os.ST_NOEXEC
    assert not memory_suffices(parse(), 2, beside)


def test_the_folder_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    """A run removes the folders of this user's runs that no longer live, and no others."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    names = [f"{PREFIX}{ended.pid}-01", f"{PREFIX}{os.getpid()}-02", f"{PREFIX}notes-03", "else"]
    for name in names:
        (tmp_path / name / "state").mkdir(parents=True)
    remove_dead_runs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_sockets_fit_into_the_folder_of_a_run(tmp_path: Path) -> None:
    """A Docker engine starts in the folder of any run, whatever its pid; a longer path fails with the reason."""
    home = MEMORY_FILES / f"{PREFIX}{2**22}-abcd" / "tmp" / "saga-lab-engine-abcdefgh"
    assert len(str(home / SOCKET)) <= SOCKET_LENGTH
    with pytest.raises(ValueError, match="too long for sockets; set TMPDIR"), engine(tmp_path, tmp_path / ("x" * 50)):
        pass


def test_a_suite_without_short_tests_asks_for_the_long_form() -> None:
    """If no test of the named suites can run in the short form, the command says so instead of selecting none."""
    done = subprocess.run([sys.executable, "tools/check.py", "cluster"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "all tests of cluster are long: add --long" in done.stderr


def test_a_second_interruption_does_not_stop_the_cleanup(tmp_path: Path) -> None:
    """A run that receives Ctrl-C and then `kill` after `kill` still removes its folder."""
    with subprocess.Popen(
        [sys.executable, "tools/check.py", "datasets"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        assert wait_until(lambda: list(tmp_path.glob(f"{PREFIX}*/tmp")), 20)
        run.send_signal(signal.SIGINT)

        def has_ended() -> bool:
            run.send_signal(signal.SIGTERM)
            return run.poll() is not None

        assert wait_until(has_ended, 60, interval=0.1)
    assert list(tmp_path.glob(f"{PREFIX}*")) == []
