"""Notebooks in a real JupyterLab and a real browser: run, clicked, restarted in the middle, and continued."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import COURSE, PICTURES
from tools.screenshot_notebooks import (
    ERROR_OUTPUTS,
    PROMPTS,
    choose_menu_item,
    run_and_capture,
    wait_for_cells,
    wait_until_idle,
)

BROKEN_WIDGET = re.compile("Error displaying widget|Loading widget|Widget not found", re.I)
SECONDS = 1000
expect.set_options(timeout=30 * SECONDS)
CONTROL_ROOM = "control-room.ipynb"


def open_notebook(page: Page, address: str, name: str) -> int:
    """Open a notebook, wait for its kernel, and return the number of its code cells."""
    page.goto(address.format(f"notebooks/{name}"))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60 * SECONDS)
    wait_until_idle(page)
    return len(page.evaluate(PROMPTS))


def save_screenshot(page: Page, name: str) -> None:
    """Save a screenshot if SAGA_LAB_PICTURES names a folder."""
    if PICTURES.name:
        page.screenshot(path=PICTURES / f"{name}.png")


@pytest.mark.long
@pytest.mark.parametrize("notebook", COURSE, ids=lambda path: path.stem)
def test_a_notebook_runs_after_a_kill_and_a_restart_of_its_kernel(
    page: Page, address: str, notebook: Path, tmp_path: Path
) -> None:
    """After a kill and a restart of its kernel, a notebook runs from the top without an error or stderr output."""
    problems = run_and_capture(page, address, notebook, PICTURES if PICTURES.name else tmp_path, "light")
    assert problems == []
    assert not BROKEN_WIDGET.search(page.locator(".jp-Notebook").inner_text())


def test_the_stream_shows_headers_and_filters_records(page: Page, address: str) -> None:
    """In notebook 01, a click on a record of the stream shows its headers, and a filter hides other records."""
    cells = open_notebook(page, address, "01-one-order.ipynb")
    choose_menu_item(page, "Run", "Run All Cells")
    wait_for_cells(page, cells)
    rows = page.locator(".lk-rows tbody tr")
    expect(rows.first).to_be_visible()
    rows.first.click()
    expect(page.locator(".lk-record")).to_contain_text("ce_id")
    page.locator(".lk-filters input").nth(1).fill("PaymentCompleted")
    expect(page.locator(".lk-rows tbody tr:visible").first).to_contain_text("PaymentCompleted")
    assert page.locator(".lk-rows tbody tr:visible").filter(has_text="OrderCreated").count() == 0
    save_screenshot(page, "01-stream")


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["no carrier", "connect killed"])
def test_the_control_room_works_with_clicks_alone(page: Page, address: str, scenario: str) -> None:
    """Clicks alone are enough to pick a scenario, break the lab, see the failure, heal it and reset."""
    open_notebook(page, address, CONTROL_ROOM)
    page.locator(".jp-CodeCell").nth(0).click()
    for _ in range(2):
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Escape")
        page.locator(".jp-CodeCell").nth(1).click()
    break_button = page.get_by_role("button", name="Break it")
    expect(break_button).to_be_visible(timeout=60 * SECONDS)
    page.get_by_role("button", name=scenario).click()
    break_button.click()
    state = page.locator("[role=status]")
    expect(state).to_contain_text("It is broken, and that was seen", timeout=90 * SECONDS)
    expect(break_button).to_be_disabled()
    save_screenshot(page, "control-room")
    page.get_by_role("button", name="Heal it").click()
    expect(state).to_contain_text("All is well", timeout=120 * SECONDS)
    page.get_by_role("button", name="⟲ Reset").click()
    expect(page.locator("pre", has_text="reset in")).to_be_visible(timeout=120 * SECONDS)
    assert page.evaluate(ERROR_OUTPUTS) == []
