"""Notebooks in a real JupyterLab and a real browser: run, clicked, restarted in the middle, and continued."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import COURSE, PICTURES
from tools.look_at_notebooks import PROMPTS, TROUBLE, finished, idle, look, menu

BROKEN_WIDGET = re.compile("Error displaying widget|Loading widget|Widget not found", re.I)
SECONDS = 1000
expect.set_options(timeout=30 * SECONDS)
ROOM = "control-room.ipynb"


def opened(page: Page, address: str, name: str) -> int:
    """Open a notebook, wait for its kernel, and return the number of its code cells."""
    page.goto(address.format(f"notebooks/{name}"))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60 * SECONDS)
    idle(page)
    return len(page.evaluate(PROMPTS))


def keep_picture(page: Page, name: str) -> None:
    """Save a screenshot if SAGA_LAB_PICTURES names a folder."""
    if PICTURES.name:
        page.screenshot(path=PICTURES / f"{name}.png")


@pytest.mark.long
@pytest.mark.parametrize("notebook", COURSE, ids=lambda path: path.stem)
def test_it_survives_a_kill_and_a_restart(page: Page, address: str, notebook: Path, tmp_path: Path) -> None:
    """After a kill and a restart of its kernel, a notebook runs from the top without an error or stderr output."""
    said = look(page, address, notebook, PICTURES if PICTURES.name else tmp_path, "light")
    assert said == []
    assert not BROKEN_WIDGET.search(page.locator(".jp-Notebook").inner_text())


def test_the_map_moves_and_a_record_opens(page: Page, address: str) -> None:
    """In notebook 01, a click on a record of the stream shows its headers, and a filter hides other records."""
    cells = opened(page, address, "01-one-order.ipynb")
    menu(page, "Run", "Run All Cells")
    finished(page, cells)
    rows = page.locator(".lk-rows tbody tr")
    expect(rows.first).to_be_visible()
    rows.first.click()
    expect(page.locator(".lk-record")).to_contain_text("ce_id")
    page.locator(".lk-filters input").nth(1).fill("PaymentCompleted")
    expect(page.locator(".lk-rows tbody tr:visible").first).to_contain_text("PaymentCompleted")
    assert page.locator(".lk-rows tbody tr:visible").filter(has_text="OrderCreated").count() == 0
    keep_picture(page, "01-stream")


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["no carrier", "connect killed"])
def test_the_control_room_breaks_and_heals(page: Page, address: str, scenario: str) -> None:
    """Clicks alone are enough to pick a scenario, break the lab, see the failure, heal it and reset."""
    opened(page, address, ROOM)
    page.locator(".jp-CodeCell").nth(0).click()
    for _ in range(2):
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Escape")
        page.locator(".jp-CodeCell").nth(1).click()
    big = page.get_by_role("button", name="Break it")
    expect(big).to_be_visible(timeout=60 * SECONDS)
    page.get_by_role("button", name=scenario).click()
    big.click()
    state = page.locator("[role=status]")
    expect(state).to_contain_text("It is broken, and that was seen", timeout=90 * SECONDS)
    expect(big).to_be_disabled()
    keep_picture(page, "control-room")
    page.get_by_role("button", name="Heal it").click()
    expect(state).to_contain_text("All is well", timeout=120 * SECONDS)
    page.get_by_role("button", name="⟲ Reset").click()
    expect(page.locator("pre", has_text="reset in")).to_be_visible(timeout=120 * SECONDS)
    assert page.evaluate(TROUBLE) == []
