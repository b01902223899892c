from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.sample import LONG, SEED
from tools.get_chromium import chromium
from tools.look_at_notebooks import FLAGS, ROOT, WIDTH, jupyterlab

ROOM = ROOT / "notebooks" / "instructor" / "control-room.ipynb"
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAMPLE = COURSE if LONG else random.Random(SEED).sample(COURSE[:3], 1)
PICTURES = Path(os.environ.get("SAGA_LAB_PICTURES", ""))


def pytest_report_header() -> str:
    return f"seed {SEED}: {', '.join(path.name for path in SAMPLE)}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; nothing of it is left at the end."""
    where = chromium()
    if not where:
        pytest.skip("there is no Chromium on this machine")
    before = {process.pid for process in psutil.process_iter()}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=FLAGS)
        yield browser
        browser.close()
    mine = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert psutil.wait_procs(mine, timeout=15)[1] == []


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A real JupyterLab on a copy of the notebooks; its address, with `{}` for a path."""
    with jupyterlab("light", [*COURSE, ROOM]) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own for each test, which must not complain in its console of a script that failed."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 1100})
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    page.close()
    assert failed == []
