"""Run the test suite: what ``python3 start.py test`` starts once everything is installed.

    python tools/check.py                          every suite, in its short form
    python tools/check.py stack notebooks          only these suites
    python tools/check.py 'tests/stack/test_reset.py::test_x'   only this file or test
    python tools/check.py --long                   with every variant, soak and repetition
    python tools/check.py --sample 12              instead, so many minutes of what only --long has

pytest-xdist runs the tests side by side. The labs that they start keep their state in a temporary folder, so that no
other lab on this machine is touched; programs come from the user's cache.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import FrameType

import psutil

from labstack.backends.processes.process import MARKER
from labstack.cli import INTERRUPTIONS
from labstack.observability.observers import NAMES

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
LAB = [PYTHON, "-m", "labstack.cli"]

SUITES: dict[str, list[str]] = {
    "lint": ["tests/lint"],
    "repo": ["tests/repo", "tests/datasets"],
    "deploy": ["tests/deploy"],
    "hub": ["tests/hub"],
    "cluster": ["tests/cluster"],
    "book": ["tests/book"],
    "installing": ["tests/installing"],
    "services": ["tests/services"],
    "mesh": ["tests/mesh"],
    "stack": ["tests/stack"],
    "containers": ["tests/containers"],
    "observability": ["tests/observability"],
    "labkit": ["tests/labkit"],
    "build": ["tests/build"],
    "notebooks": ["notebooks", "tests/notebooks"],
    "browser": ["tests/browser"],
    "binder": ["tests/binder"],
    "benchmarks": ["tests/benchmarks"],
}
"""Pytest's paths for each suite."""

NAMED: dict[str, list[str]] = {
    "containers": [
        "tests/containers/test_compose.py",
        "tests/containers/test_in_containers.py::test_container_mode[containers]",
    ]
}
"""Pytest's paths for a suite that is named on the command line. A node id also selects a ``long`` test."""

WITHOUT_LAB = ("lint", "repo", "deploy", "hub", "cluster", "book", "services", "mesh")
"""Suites that need only Python packages."""

ONLY_LONG = ("cluster",)
"""Suites without a short form."""

OBSERVED = ("observability", "labkit", "notebooks", "containers", "browser", "binder")
"""Suites that also query Prometheus."""

LAB_MEMORY = 1.2e9
"""Memory in bytes that a worker's lab, its tests and its notebook use."""

BUSY_SECONDS, BUSY_PERCENT = 1.0, 30.0
"""How long a run looks at the machine before it starts, and the percentage of a core that makes the machine busy."""

MEMORY_FILES = Path("/dev/shm")
"""A file system in memory, which most Linux systems have."""

LARGE = ("containers", "cluster")
"""Suites whose files are too large for it."""

FILES_SIZE = 6e9
"""Bytes that the files of a run need there, besides the memory of its processes."""

PREFIX = "saga-check-"
"""Start of the name of a run's folder; the pid of the run follows. It is short, as the paths of sockets must be."""


def main() -> int:
    """Run the command line, and return the exit status."""
    arguments = parse()
    # A `kill` or a closed terminal stops the run like Ctrl-C: the `finally` block below stops every started process. A
    # shell makes its background jobs ignore Ctrl-C, and pytest would inherit that.
    for which in INTERRUPTIONS:
        if which != signal.SIGHUP or signal.getsignal(which) is not signal.SIG_IGN:  # nohup ignores it on purpose
            signal.signal(which, interrupt)
    run = f"{os.getpid()}-{random.randrange(10**6)}"
    suites = suites_of(arguments.what)
    print(f"seed {arguments.seed} (repeat with --seed {arguments.seed})", flush=True)
    beside = runs_beside(run)
    at_once = arguments.workers or workers(beside)
    remove_dead_runs(MEMORY_FILES)
    on_disk = Path(tempfile.gettempdir())
    parent = MEMORY_FILES if memory_suffices(arguments, at_once, beside) else on_disk
    folder = parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every Python process of the run compiles the same files
    environment = {
        **os.environ,
        "PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "XDG_STATE_HOME": str(folder / "state"),
        "TMPDIR": str(folder / "tmp"),
        "LAB_NAME": "check",
        "LAB_MODE": "local",
        "LAB_CONTROL_PLANE": "translator",
        "LAB_OBSERVABILITY": "installed",
        "LAB_RELAY_POLL_MS": "60",  # saves processor time; an event is relayed about 20 ms later
        "SAGA_LAB_SEED": str(arguments.seed),
        "SAGA_LAB_LONG": "1" if arguments.long else "",
        "SAGA_LAB_SAMPLE": str(arguments.sample or ""),
        "SAGA_LAB_RECORD": "1" if arguments.record else "",
        "SAGA_LAB_CHECK": run,
    }
    began = time.monotonic()
    left: list[str] = []
    try:
        make_folder(folder)
        prepare(suites, environment, long=arguments.long)
        status = run_tests(command(arguments, at_once), environment)
    except KeyboardInterrupt:
        status = 130
    finally:
        left = [*kill_leftovers(run), *(str(path) for path in leftover_folders(folder / "tmp"))]
        remove(folder)
        if left:
            print(f"left behind by the tests, and removed now: {', '.join(left)}", file=sys.stderr)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes in all")
    print("all suites passed" if not status and not left else "SOME SUITES FAILED", flush=True)
    return status or int(bool(left))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Stop the run at the first signal; later ones must not interrupt the cleanup."""
    for which in INTERRUPTIONS:
        signal.signal(which, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; or a file or test, as pytest names it"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--long", action="store_true", help="every variant, soak and repetition, too")
    form.add_argument("--sample", type=float, metavar="MINUTES", help="a sample of what only --long has")
    parser.add_argument(
        "--seed", type=int, default=date.today().toordinal(), help="chooses the sample (default: the day)"
    )
    parser.add_argument("--workers", type=int, help="how many tests run at once (default: by cores and memory)")
    parser.add_argument("--record", action="store_true", help="write what each test took to tests/suite/seconds.json")
    arguments = parser.parse_args()
    for word in arguments.what:
        if word not in SUITES and not (ROOT / word.partition("::")[0]).exists():
            parser.error(f"there is no suite and no file {word}; the suites are {', '.join(SUITES)}")
    if arguments.what and set(arguments.what) <= {*ONLY_LONG} and not (arguments.long or arguments.sample):
        parser.error(f"all tests of {' and '.join(arguments.what)} are long: add --long")
    return arguments


def suites_of(words: list[str]) -> list[str]:
    """Return the suites to which the named suites, files and tests belong, or all suites if there are none.

    Examples
    --------
    >>> suites_of(["tests/mesh/test_limits.py::test_a_large_file_is_refused", "lint"])
    ['lint', 'mesh']
    """

    def has(name: str, word: str) -> bool:
        path = Path(word.partition("::")[0])
        return word == name or any(path.is_relative_to(folder) for folder in SUITES[name])

    return [name for name in SUITES if not words or any(has(name, word) for word in words)]


def command(arguments: argparse.Namespace, at_once: int) -> list[str]:
    """Return the command line for pytest with this number of parallel tests."""
    is_short_and_named = arguments.what and not (arguments.long or arguments.sample)
    suites = SUITES | NAMED if is_short_and_named else SUITES
    paths = [path for word in arguments.what or SUITES for path in suites.get(word, [word])]
    parallel = ["-n", str(at_once), "--dist", "loadgroup", "--no-loadscope-reorder"]
    # Importing nbval costs two seconds at the startup of every worker.
    has_notebooks = any(path.startswith("notebooks") for path in paths)
    return [
        PYTHON,
        "-m",
        "pytest",
        "-q",
        "-rfEs",
        *(["--nbval"] if has_notebooks else ["-p", "no:nbval"]),
        *parallel,
        *paths,
    ]


def run_tests(pytest: list[str], environment: dict[str, str]) -> int:
    """Run pytest, and return its exit status. On Ctrl-C, allow 30 s for it to stop the labs of its tests."""
    running = subprocess.Popen(pytest, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    try:
        return running.wait()
    except BaseException:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            running.send_signal(signal.SIGINT)
            running.wait(30)
        raise


def workers(beside: int = 0) -> int:
    """Return the number of parallel tests, up to 8; less if memory does not suffice for a lab each.

    A test waits for processes a third of its time, so there is one test more than there are cores. On a machine that
    is busy with something else there are as many as cores: with more, tests exceed their time limits.

    Parameters
    ----------
    beside : int
        Number of other runs on this machine, with which this run shares the cores.
    """
    if beside:
        print(f"{beside} other run(s) of the tests use this machine, so this one runs fewer tests at once.", flush=True)
    cores = max(2, os.cpu_count() or 1)
    is_idle = not beside and psutil.cpu_percent(BUSY_SECONDS) < BUSY_PERCENT / cores
    at_once = cores // (1 + beside) + is_idle
    return max(1, min(at_once, int(psutil.virtual_memory().available // LAB_MEMORY), 8))


def runs_beside(run: str) -> int:
    """Return the number of other runs of the tests that this user has on this machine; a run starts with its pid."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found.add(process.environ().get("SAGA_LAB_CHECK", run))
    return sum(psutil.pid_exists(int(other.partition("-")[0])) for other in found - {run})


def prepare(suites: list[str], environment: dict[str, str], *, long: bool) -> None:
    """Download the programs that the suites need. Tests skip themselves if their program is not available.

    Raises
    ------
    SystemExit
        If a program that every lab needs can't be downloaded.
    """
    wanted: list[list[str]] = []
    if "browser" in suites:
        wanted.append([PYTHON, "-m", "tools.get_chromium"])
    if long:
        wanted += [[PYTHON, "-m", "tests.get_program", name] for name in ("istiod", *NAMES) if name != "grafana"]
    elif set(suites) & set(OBSERVED):
        wanted += [[PYTHON, "-m", "tests.get_program", name, "--not-built"] for name in ("prometheus", "alertmanager")]
    running = [subprocess.Popen(one, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL) for one in wanted]
    if set(suites) - set(WITHOUT_LAB):
        fetched = subprocess.run([*LAB, "prefetch"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
        if fetched.returncode:
            raise SystemExit(fetched.returncode)
    for one in running:
        one.wait()


def memory_suffices(arguments: argparse.Namespace, at_once: int, beside: int) -> bool:
    """Report whether the temporary files of this run fit into memory, and no TMPDIR names another place.

    A lab that has never run copies 4,000 files of its databases, and its removal deletes them. For minutes after that,
    ext4 skips the inode of each deleted file whenever it creates another one (`recently_deleted` in Linux's
    fs/ext4/ialloc.c). On a disk, this doubles the processor time of each start.

    Long tests and container mode need more space than that: they build images.

    Parameters
    ----------
    arguments : Namespace
        The command line.
    at_once : int
        Number of parallel tests, each with a lab.
    beside : int
        Number of other runs on this machine.
    """
    is_large = arguments.long or arguments.sample or any(name in word for word in arguments.what for name in LARGE)
    if "TMPDIR" in os.environ or is_large or beside:
        return False
    free = 0.0
    if sys.platform == "linux":
        with suppress(OSError):
            found = os.statvfs(MEMORY_FILES)
            if os.access(MEMORY_FILES, os.W_OK) and not found.f_flag & os.ST_NOEXEC:
                free = found.f_bavail * found.f_frsize
    return min(free, psutil.virtual_memory().available - at_once * LAB_MEMORY) >= FILES_SIZE


def remove_dead_runs(parent: Path) -> None:
    """Remove the folders of this user's runs that were killed, since files in memory stay until the system restarts."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError):
            if pid.isdecimal() and not psutil.pid_exists(int(pid)) and folder.stat().st_uid == os.getuid():
                remove(folder)


def make_folder(folder: Path) -> None:
    """Create the folder of a run for its labs and temporary files, accessible to other users."""
    folder.mkdir(mode=0o700)
    folder.chmod(0o755)
    for name, mode in ("state", 0o755), ("tmp", 0o1777):
        (folder / name).mkdir()
        (folder / name).chmod(mode)


def remove(folder: Path) -> None:
    """Remove the folder of a run, unless something is mounted in it: the files may then belong elsewhere."""
    mounted = [
        part.mountpoint for part in psutil.disk_partitions(all=True) if Path(part.mountpoint).is_relative_to(folder)
    ]
    if mounted:
        print(f"{folder} stays, since these are mounted in it: {', '.join(mounted)}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def leftover_folders(folder: Path) -> list[Path]:
    """Return the folders that tests left among the temporary files. pytest removes its own later."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.is_dir() and not path.name.startswith("pytest-of-")]


def kill_leftovers(run: str) -> list[str]:
    """Kill every living process that this run has started, and return their markers or command lines.

    A process gets three seconds to end on its own, as Python's resource tracker does after its parent ends. A killed
    process may have started another one in the meantime, so the search repeats until no process is alive.
    """
    left: list[str] = []
    _, alive = psutil.wait_procs(started_by(run), timeout=3)
    while alive:
        for process in alive:
            with suppress(psutil.Error, OSError):
                left.append(process.environ().get(MARKER) or " ".join(process.cmdline()[:4]))
                process.kill()
        psutil.wait_procs(alive, timeout=3)
        alive = started_by(run)
    return left


def started_by(run: str) -> list[psutil.Process]:
    """Return the living processes that this run has started, except itself."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get("SAGA_LAB_CHECK") == run and process.pid != os.getpid()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.exit(main())
