#!/usr/bin/env python3
"""Open notebooks in a real JupyterLab in headless Chromium, run them, and take pictures, to be looked at.

    python tools/screenshot_notebooks.py FOLDER                          all of them, in the light and the dark theme
    python tools/screenshot_notebooks.py FOLDER notebooks/02-*.ipynb     some
    python tools/screenshot_notebooks.py FOLDER --theme dark

In the light theme the kernel's process is killed after a third of the cells, and the kernel restarted from the menu
after half of them; each time everything is run again from the top.
JupyterLab listens on 127.0.0.1 with a token, works on a copy of the notebooks, and is ended afterwards. The lab itself
(LAB_NAME) goes on. Exit status 1 if a cell showed an error or wrote to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import nbformat
import psutil
from playwright.sync_api import Page, sync_playwright

from labstack.clients import http

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from start import DEFAULT_SETTINGS  # noqa: E402
from tools.get_chromium import chromium  # noqa: E402

COPIED = ("docs", "datasets", "labservices", "lab-stack")
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, SLICE = 1280, 1500
RUN_SECONDS = 240
PAGE_SECONDS = 120
"""Seconds to wait for JupyterLab's page to react; beside two other labs, two cores need more than 30."""
PROMPTS = (
    """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputArea-prompt')].map(p => p.innerText)"""
)
ERROR_OUTPUTS = """() => ['stderr', 'error'].flatMap(kind => [...document.querySelectorAll(
    `.jp-Notebook [data-mime-type="application/vnd.jupyter.${kind}"]`)].map(o => o.innerText))"""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--theme", choices=THEMES, action="append")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    notebooks = arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    errors = 0
    if not (executable := chromium()):
        parser.error("there is no Chromium on this machine; `python -m tools.get_chromium` may get one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        for theme in arguments.theme or list(THEMES):
            with jupyterlab(theme, notebooks) as address:
                for notebook in notebooks:
                    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
                    found = run_and_capture(page, address, notebook, arguments.folder, theme)
                    page.close()
                    errors += len(found)
                    print(f"{notebook.name} ({theme}): {found or 'as it should be'}", flush=True)
        browser.close()
    return 1 if errors else 0


@contextmanager
def jupyterlab(theme: str, notebooks: Iterable[Path]) -> Iterator[str]:
    """Run JupyterLab on a copy of the notebooks with separate settings. Yield its URL with `{}` for a path."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        copy_notebooks(notebooks, work / "lab" / "notebooks")
        for name in COPIED:
            shutil.copytree(ROOT / name, work / "lab" / name, ignore=shutil.ignore_patterns("__pycache__"))
        settings = {
            "apputils-extension/themes": {"theme": THEMES[theme]},
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "notebook-extension/tracker": {"windowingMode": "none"},
            "docmanager-extension/plugin": {"autosave": False},
        }
        for name, values in settings.items():
            path = work / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")
        defaults = work / "config" / "labconfig" / "default_setting_overrides.json"
        defaults.parent.mkdir(parents=True)
        defaults.write_text(json.dumps(DEFAULT_SETTINGS), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        token = secrets.token_hex(16)
        log = (work / "server.log").open("wb")
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "jupyter"), "lab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
            + [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={work / 'lab'}"]
            + (["--allow-root"] if os.name == "posix" and os.geteuid() == 0 else []),
            env={
                **os.environ,
                "JUPYTER_TOKEN": token,
                "JUPYTERLAB_SETTINGS_DIR": str(work / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(work / "workspaces"),
                "JUPYTER_CONFIG_DIR": str(work / "config"),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 60
            while not responds(f"http://127.0.0.1:{port}/api?token={token}"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"JupyterLab did not start:\n{(work / 'server.log').read_text()[-2000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
        finally:
            server.terminate()
            server.wait(30)
            log.close()


def copy_notebooks(notebooks: Iterable[Path], folder: Path) -> None:
    """Copy notebooks without their outputs, so that the pictures show only new outputs."""
    folder.mkdir(parents=True)
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)


def responds(url: str) -> bool:
    """Report whether the server answers."""
    try:
        return http.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def run_and_capture(page: Page, address: str, notebook: Path, folder: Path, theme: str) -> list[str]:
    """Run one notebook, take pictures, and return the errors and stderr of its cells."""
    page.goto(address.format(f"notebooks/{notebook.name}"))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=PAGE_SECONDS * 1000)
    wait_until_idle(page)
    if page.locator(".jp-SideBar .jp-mod-current, .lm-mod-current[data-id='filebrowser']").count():
        page.keyboard.press("Control+b")
    cells = len(page.evaluate(PROMPTS))
    choose_menu_item(page, "Run", "Run All Cells")
    if theme == "light":
        wait_for_cells(page, max(1, cells // 3))
        kill_kernel(address, notebook.name)
        died = page.locator(".jp-Dialog", has_text="appears to have died")
        died.locator("button.jp-mod-accept").click(timeout=PAGE_SECONDS * 1000)
        wait_until_idle(page)  # JupyterLab drops run requests until the new kernel has answered
        choose_menu_item(page, "Run", "Run All Cells")
        half = max(1, cells // 2)
        wait_for_cells(page, half)
        choose_menu_item(page, "Kernel", "Restart Kernel and Run All Cells…")
        page.locator(".jp-Dialog button.jp-mod-accept").click()
        page.wait_for_function(
            f"() => ({PROMPTS})().filter(p => /\\d/.test(p)).length < {half}", timeout=PAGE_SECONDS * 1000
        )
    wait_for_cells(page, cells)
    take_pictures(page, folder, f"{notebook.stem}-{theme}")
    outputs: list[str] = page.evaluate(ERROR_OUTPUTS)
    return outputs


def kill_kernel(address: str, name: str) -> None:
    """Kill the process of a notebook's kernel as an out-of-memory killer does. The server starts another one."""
    sessions = http.get(address.replace("/lab/tree/{}", "/api/sessions"), timeout=10).raise_for_status().json()
    (kernel,) = (session["kernel"]["id"] for session in sessions if session["path"] == f"notebooks/{name}")
    (process,) = (child for child in psutil.Process().children(recursive=True) if is_kernel(child, kernel))
    process.kill()


def is_kernel(process: psutil.Process, kernel: str) -> bool:
    """Report whether a process, which may end at any moment, is the kernel with this id."""
    with suppress(psutil.Error):
        return any(f"kernel-{kernel}" in word for word in process.cmdline())
    return False


def wait_until_idle(page: Page) -> None:
    """Wait until the notebook's kernel reports that it is idle."""
    page.locator("#jp-bottom-panel, .jp-StatusBar-Widget").get_by_text("| Idle").first.wait_for(
        timeout=PAGE_SECONDS * 1000
    )


def choose_menu_item(page: Page, name: str, item: str) -> None:
    """Choose an item of JupyterLab's menu."""
    page.locator(".lm-MenuBar-itemLabel", has_text=name).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=item).first.click()


def wait_for_cells(page: Page, cells: int) -> None:
    """Wait until that many cells have run."""
    page.wait_for_function(
        f"() => ({PROMPTS})().filter(p => /\\[\\d+\\]/.test(p)).length >= {cells}", timeout=RUN_SECONDS * 1000
    )


def take_pictures(page: Page, folder: Path, name: str) -> None:
    """Take pictures of the whole notebook, in slices that fit on a screen."""
    page.wait_for_timeout(1500)  # pictures and diagrams are drawn after their cells have run
    height = (
        page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('.jp-Notebook, .jp-Notebook *')].map(e => e.scrollHeight))"
        )
        + 200
    )
    page.set_viewport_size({"width": WIDTH, "height": min(int(height), 16_000)})
    page.evaluate("() => document.querySelectorAll('.jp-Notebook, .jp-Notebook *').forEach(e => { e.scrollTop = 0 })")
    page.wait_for_timeout(1500)
    for number, top in enumerate(range(0, min(int(height), 16_000), SLICE), start=1):
        clip = {"x": 0, "y": top, "width": WIDTH, "height": min(SLICE, height - top)}
        page.screenshot(path=folder / f"{name}-{number}.png", clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
