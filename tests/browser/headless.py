"""A headless Chromium for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from playwright.sync_api import Browser, sync_playwright

from tools.get_chromium import chromium
from tools.screenshot_notebooks import FLAGS


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    """Run a headless Chromium for a block; none of its processes remains. Skip the test on a machine without one."""
    where = chromium()
    if not where:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        before = set(psutil.Process().children(recursive=True))
        browser = playwright.chromium.launch(executable_path=where, args=FLAGS)
        processes = set(psutil.Process().children(recursive=True)) - before
        yield browser
        browser.close()
    assert psutil.wait_procs(processes, timeout=15)[1] == []
