"""The hub in a browser: the login, a learner's JupyterLab, and the instructor's page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.headless import headless_chromium
from tests.hub.running import ADMIN_PASSWORD, PASSWORD, Hub
from tests.hub.test_progress import hand_in, post, user_with_token

PICTURES = Path(os.environ.get("SAGA_LAB_PICTURES", ""))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium."""
    with headless_chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page without cookies, in which no script may fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def log_in(page: Page, hub: Hub, name: str, password: str) -> None:
    page.goto(f"{hub.url}/hub/login?next=/hub/home")
    page.fill("#username_input", name)
    page.fill("#password_input", password)
    page.click("#login_submit")


def keep(page: Page, name: str) -> None:
    """Save a picture of the page if SAGA_LAB_PICTURES is a folder."""
    if PICTURES.name:
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_a_learner_logs_in_and_gets_jupyterlab(page: Page, local_hub: Hub) -> None:
    """With the password of the room, a new name gets a JupyterLab, and a link to the learner's progress."""
    page.goto(f"{local_hub.url}/")
    page.wait_for_selector("#login_submit")
    keep(page, "hub-login")
    log_in(page, local_hub, "grace", PASSWORD)
    page.wait_for_selector("#start")
    keep(page, "hub-home")
    page.click("text=Services")
    assert page.get_by_role("link", name="progress").is_visible()
    page.goto(f"{local_hub.url}/hub/spawn")
    page.wait_for_url("**/user/grace/lab**", timeout=120_000)
    page.wait_for_selector(".jp-Launcher", timeout=120_000)
    keep(page, "hub-jupyterlab")
    local_hub.api("DELETE", "/users/grace/server")


def test_an_instructor_reads_the_progress_of_the_class(page: Page, local_hub: Hub, tmp_path: Path) -> None:
    """The instructor's page has a row per learner, which leads to the learner's answers."""
    names = ("abel", "bea", "cem", "dina", "emil", "fay")
    for solved, name in enumerate(names, 1):
        found = hand_in(tmp_path / name, solved=solved)
        assert post(local_hub, user_with_token(local_hub, name), found).status_code == 204
    log_in(page, local_hub, "instructor", ADMIN_PASSWORD)
    page.goto(f"{local_hub.url}/services/progress/")
    for name in names:
        assert page.get_by_role("link", name=name, exact=True).is_visible()
    keep(page, "hub-progress")
    page.click("text=fay")
    page.wait_for_url("**/learners/fay")
    assert page.get_by_text("SELECT 1 < 2").first.is_visible()
    keep(page, "hub-learner")
    page.click("text=All learners")
    page.wait_for_url("**/services/progress/")
