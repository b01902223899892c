from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from labstack import Lab
from tests.browser.headless import headless_chromium
from tests.suite.chance import SEED
from tools.screenshot_notebooks import PAGE_SECONDS, ROOT, WIDTH, jupyterlab

CONTROL_ROOM = ROOT / "notebooks" / "instructor" / "control-room.ipynb"
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = Path(os.environ.get("SAGA_LAB_PICTURES", ""))
PATIENCE = 1000 * PAGE_SECONDS
"""Milliseconds to wait for something on a page."""


def pytest_report_header() -> str:
    return f"seed {SEED}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium; none of its processes remains at the end."""
    with headless_chromium() as found:
        yield found


KILLED_KERNEL_ERRORS = re.compile(r"(Canceled future for \w+ message before replies were done|^Cannot send)$")
"""JupyterLab's errors for a request, or a widget's message, to a kernel that a test killed."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start a real JupyterLab on a copy of the notebooks, and yield its address with `{}` for a path."""
    with jupyterlab("light", [*COURSE, CONTROL_ROOM]) as address:
        yield address


@pytest.fixture
def page(browser: Browser, course_lab: Lab) -> Iterator[Page]:
    """Open a new page for each test, in which no script may fail."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 1100})
    page.set_default_timeout(PATIENCE)
    script_errors: list[str] = []
    page.on("pageerror", lambda error: script_errors.append(str(error)))
    yield page
    page.close()
    assert [error for error in script_errors if not KILLED_KERNEL_ERRORS.search(error)] == []
