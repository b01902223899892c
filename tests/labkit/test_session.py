"""The start of a notebook, on a real lab."""

from __future__ import annotations

import pytest

from labkit import Session, begin, wait_until
from labstack.clients import http


def test_the_start_of_a_notebook_repairs_the_lab(session: Session) -> None:
    """A lab with a paused consumer and a stopped service is repaired, and orders complete again."""
    consumer = f"{session.lab.endpoints.services['order']}/manage/consumer"
    http.request("POST", f"{consumer}/pause", timeout=10).raise_for_status()
    session.lab.stop("shipping")
    shop = begin("00", session.lab).shop
    assert shop.follow(shop.place_order("ada", "rome", {"rooibos": 1})).status == "COMPLETED"


def test_a_notebook_does_not_undo_an_exercise_in_progress(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Components that a setup stopped stay down with a notice; another notebook starts them again with a notice."""
    shown: list[str] = []
    monkeypatch.setattr("labkit.status_area.StatusArea._update", lambda area, content: shown.append(content))
    session.tasks.forget()
    tasks = begin("00", session.lab).tasks
    tasks.setup("who-is-down")
    stopped = [name for name, one in session.lab.status(memory=False).components.items() if one.state != "running"]
    assert stopped
    begin("00", session.lab)
    assert session.lab.status(memory=False).components[stopped[0]].state != "running"
    assert "who-is-down is in progress" in shown[-1]
    assert stopped[0] in shown[-1]
    begin("01", session.lab)  # another notebook needs the complete lab
    assert session.lab.status(memory=False).state == "ready"
    assert f"Started again: {stopped[0]}." in shown[-1]
    tasks.cleanup("who-is-down")


def test_a_killed_second_version_does_not_degrade_the_lab(session: Session) -> None:
    """A second version that a lesson killed does not make the next notebook start degraded."""
    session.lab.start("order-v2")
    session.lab.faults.kill("order-v2")
    lab = begin("00", session.lab).lab
    assert lab.status(memory=False).state == "ready"
    assert not lab.endpoints.versions


@pytest.mark.long
def test_a_notebook_starts_without_a_replication_slot(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """If the relay can't resume, a notebook starts and reports it, and `lab.reset()` repairs the lab."""
    session.lab.stop("connect")
    with session.look.db.connect("payment") as db:
        db.autocommit = True
        wait_until(lambda: db.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchone() is None)
        db.execute("SELECT pg_drop_replication_slot('outbox')")
    lab, shop, *_ = begin("00", session.lab)
    assert "The lab is degraded" in (output := capsys.readouterr().out)
    assert "Next step: run `lab.reset()`" in output
    lab.reset()
    assert shop.follow(shop.place_order("ada", "rome", {"rooibos": 1})).status == "COMPLETED"


def test_a_setup_brings_back_stopped_or_paused_components(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """An exercise's setup brings back stopped or paused components, and reports them."""
    session.lab.stop("inventory")
    session.lab.faults.pause("shipping")
    session.tasks.setup("never-overtaken")
    assert "Started again, because the exercise needs it: inventory, shipping." in capsys.readouterr().out
    session.tasks.cleanup("never-overtaken")
    session.tasks.setup("never-overtaken")
    assert "Started again" not in capsys.readouterr().out
    tasks = begin("03", session.lab).tasks
    session.lab.stop("shipping")
    tasks.setup("what-the-shop-kept")
    said = 'If it needs a stopped component, run tasks.setup("never-overtaken") again.'
    assert said in capsys.readouterr().out
    session.tasks.cleanup("never-overtaken")


def test_a_check_after_a_reset_asks_for_a_new_setup(session: Session) -> None:
    """A check after a reset is neither an attempt nor an error, and asks for a new setup."""
    tasks = session.tasks
    for name in ("past-the-inbox", "safe-to-retry"):
        tasks.setup(name)
    session.lab.reset()
    for name in ("past-the-inbox", "safe-to-retry"):
        before = tasks.progress().table.set_index("name").loc[name, "attempts"]
        verdict = tasks.check(name)
        assert verdict.outcome == "untouched"
        assert f'run tasks.setup("{name}") again' in verdict.message
        assert tasks.progress().table.set_index("name").loc[name, "attempts"] == before
    tasks.setup("past-the-inbox")
    assert "was reset" not in tasks.check("past-the-inbox").message
    tasks.cleanup("past-the-inbox")
