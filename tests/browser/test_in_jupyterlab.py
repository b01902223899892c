"""Notebooks in a real JupyterLab and a real browser: run, clicked, restarted in the middle, and continued."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from labstack.clients import http
from tests.browser.conftest import COURSE, PATIENCE, PICTURES
from tools.screenshot_notebooks import (
    ERROR_OUTPUTS,
    PROMPTS,
    WIDTH,
    choose_menu_item,
    run_and_capture,
    wait_for_cells,
    wait_until_idle,
)

BROKEN_WIDGET = re.compile("Error displaying widget|Loading widget|Widget not found", re.I)
NOT_FOUND = "model not found"
SAVED = "() => !document.querySelector('.jp-mod-dirty')"
SECONDS = 1000
SAGA = ("OrderCreated", "InventoryReserved", "PaymentCompleted", "ShipmentScheduled", "OrderCompleted")
"""The events of a completed order."""
expect.set_options(timeout=PATIENCE)
CONTROL_ROOM = "control-room.ipynb"


def open_notebook(page: Page, address: str, name: str) -> int:
    """Open a notebook, wait for its kernel, and return the number of its code cells."""
    page.goto(address.format(f"notebooks/{name}"))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=PATIENCE)
    wait_until_idle(page)
    return len(page.evaluate(PROMPTS))


def reopen_with_saved_widgets(page: Page, address: str, name: str) -> None:
    """Open a notebook whose widgets come from its file, again if JupyterLab's widget manager has not read them.

    That happens if the kernel connects just then (docs/upstream.md, ipywidgets). A learner reloads the page.
    """
    notebook = page.locator(".jp-Notebook")
    for _ in range(3):
        open_notebook(page, address, name)
        expect(notebook.locator(".lk-map").or_(notebook.get_by_text(NOT_FOUND)).first).to_be_visible()
        if notebook.get_by_text(NOT_FOUND).count() == 0:
            return


def run_all(page: Page, address: str, name: str) -> None:
    """Open a notebook, and run its cells."""
    cells = open_notebook(page, address, name)
    choose_menu_item(page, "Run", "Run All Cells")
    wait_for_cells(page, cells)


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


def filter_the_stream(panel: Locator) -> None:
    """Click on a record of the stream in a panel, and filter the records."""
    rows = panel.locator(".lk-rows tbody tr:visible")
    expect(rows.first).to_be_visible()
    rows.first.click()
    expect(panel.locator(".lk-record")).to_contain_text("ce_id")
    panel.locator(".lk-filters input").nth(1).fill("PaymentCompleted")
    expect(rows.filter(has_text="OrderCreated")).to_have_count(0)
    expect(rows.first).to_contain_text("PaymentCompleted")


@pytest.mark.long
def test_the_stream_shows_headers_and_filters_records(page: Page, address: str) -> None:
    """In notebook 01, a click on a record of the stream shows its headers, and a filter hides other records."""
    cells = open_notebook(page, address, "01-one-order.ipynb")
    choose_menu_item(page, "Run", "Run All Cells")
    wait_for_cells(page, cells)
    filter_the_stream(page.locator(".jupyterlab-sidecar"))  # the notebook keeps its stream beside it
    save_screenshot(page, "01-stream")


VIEWS = """\
from labkit import begin
lab, shop, look, tasks = begin("02")
---
live = look.map()
live
---
stream = look.stream()
stream
---
places = look.positions()
places
---
order = shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1}))
"""


@pytest.fixture
def views(address: str) -> str:
    """A notebook with three live views; the name of its file."""
    cells = [nbformat.v4.new_code_cell(source) for source in VIEWS.split("---\n")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}})
    url = address.replace("/lab/tree/{}", "/api/contents/notebooks/views.ipynb")
    content = {"type": "notebook", "content": notebook}
    http.request("PUT", url, json=content, timeout=30).raise_for_status()
    return "views.ipynb"


def test_a_live_view_stays_beside_the_notebook(page: Page, address: str, views: str) -> None:
    """A button shows a live view in a panel, where it stays while the notebook scrolls; the next view replaces it.

    In the panel, a click on a record of the stream shows its headers, and a filter hides the other records.
    """
    run_all(page, address, views)
    notebook, panel = page.locator(".jp-Notebook"), page.locator(".jupyterlab-sidecar")
    for shown in (".lk-map", ".lk-rows", ".lk-positions"):
        view = notebook.locator(".lk-view", has=page.locator(shown))
        view.get_by_role("button", name="keep beside the notebook").click()
        expect(panel.locator(shown)).to_be_visible()
        expect(panel).to_have_count(1)
        expect(view.locator(shown)).to_be_hidden()
        expect(view).to_contain_text("in the panel beside the notebook")
        expect(panel.locator(".lk-note")).to_contain_text("● live")
        save_screenshot(page, f"beside{shown}")
        if shown == ".lk-rows":
            filter_the_stream(panel)
    notebook.evaluate("element => element.scrollTo(0, 0)")
    expect(panel.locator(".lk-positions")).to_be_in_viewport()
    page.locator(
        ".lm-DockPanel-tabBar [title^=Positions] .lm-TabBar-tabCloseIcon, "
        ".lm-DockPanel-tabBar .lm-TabBar-tab:has-text('Positions') .lm-TabBar-tabCloseIcon"
    ).first.click()
    expect(notebook.locator(".lk-positions")).to_be_visible()


def test_a_reopened_notebook_shows_the_last_pictures(page: Page, address: str, views: str) -> None:
    """A notebook that is opened again with a new kernel shows the last picture of each live view."""
    run_all(page, address, views)
    notebook = page.locator(".jp-Notebook")  # JupyterLab may restore an earlier panel beside it
    rows = notebook.locator(".lk-rows tbody tr")
    for event in SAGA:
        expect(rows.filter(has_text=event)).not_to_have_count(0)
    records = rows.count()
    expect(notebook.locator(".lk-told")).to_contain_text("OrderCompleted")
    choose_menu_item(page, "File", "Save Notebook")
    page.wait_for_function(SAVED)
    sessions = address.replace("/lab/tree/{}", "/api/sessions")
    for session in http.get(sessions, timeout=10).raise_for_status().json():
        http.request("DELETE", sessions.replace("?", f"/{session['id']}?"), timeout=30).raise_for_status()
    reopen_with_saved_widgets(page, address, views)
    for shown in (".lk-map", ".lk-rows", ".lk-positions"):
        expect(notebook.locator(shown)).to_be_visible()
    expect(rows).to_have_count(records)
    expect(notebook.locator(".lk-told")).to_contain_text("OrderCompleted")
    expect(notebook.locator(".lk-note").first).to_contain_text("no data")
    save_screenshot(page, "reopened")
    assert not BROKEN_WIDGET.search(notebook.inner_text())


def open_control_room(page: Page, address: str) -> Locator:
    """Run the control room's first two cells, and return the button that breaks the lab."""
    open_notebook(page, address, CONTROL_ROOM)
    page.locator(".jp-CodeCell").nth(0).click()
    for _ in range(2):
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Escape")
        page.locator(".jp-CodeCell").nth(1).click()
    break_button = page.get_by_role("button", name="Break it")
    expect(break_button).to_be_visible(timeout=PATIENCE)
    return break_button


def test_the_control_room_shows_map_and_buttons_on_one_screen(page: Page, address: str) -> None:
    """On the screen of a small laptop, the map is visible below the buttons without scrolling."""
    page.set_viewport_size({"width": WIDTH, "height": 800})
    break_button = open_control_room(page, address)
    break_button.evaluate("element => element.closest('.jp-OutputArea').scrollIntoView()")
    save_screenshot(page, "control-room-fold")
    expect(break_button).to_be_in_viewport()
    expect(page.locator(".lk-map")).to_be_in_viewport(ratio=0.99)


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["no carrier", "connect killed"])
def test_the_control_room_works_with_clicks_alone(page: Page, address: str, scenario: str) -> None:
    """Clicks alone are enough to pick a scenario, break the lab, see the failure, heal it and reset."""
    break_button = open_control_room(page, address)
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
