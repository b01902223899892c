"""Workplaces: what they create and remove, and how a file's process is crashed and held."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.build import task
from labkit.build.program import ProgramFailed
from labkit.build.step import BuildStep
from labkit.build.workplace import Workplace
from labkit.errors import KitError
from labstack import Lab
from labstack.clients import broker

CODE = """
import os

import psycopg


def create() -> str:
    with psycopg.connect(os.environ["DATABASE_URL"].replace("+psycopg", "")) as db:
        db.execute("CREATE TABLE facts (fact text)")
        db.commit()
        db.execute("INSERT INTO facts VALUES ('one')")
    return "done"


def fail() -> None:
    raise ValueError("no such return")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with two functions."""
    found = tmp_path / "facts.py"
    found.write_text(CODE, encoding="utf-8")
    return found


def test_a_closed_workplace_leaves_nothing(course_lab: Lab, file: Path) -> None:
    """A workplace has a database, topics and processes that no other has; closing it removes them."""
    with Workplace(course_lab, file) as place, Workplace(course_lab, file) as other:
        assert place.name != other.name
        topic = place.topic("parcels", 2)
        assert (place.call("create")[0].value, other.call("create")[0].value) == ("done", "done")
        assert place.rows("SELECT fact FROM facts WHERE fact = %s", "one") == [{"fact": "one"}]
        held = place.start_call("fail", hold=["call"])
        held.wait_for("held")
    assert not held.is_alive
    assert {place.name, other.name}.isdisjoint(course_lab.extensions.names)
    assert broker.partitions(course_lab.endpoints.kafka, [topic]) == []


def test_a_process_is_killed_and_held_at_points(course_lab: Lab, file: Path) -> None:
    """A process is killed at the judge's point, and an exception of a function is a result."""
    with Workplace(course_lab, file) as place:
        killed = place.start_call("create", crash="before-commit")
        assert killed.wait() == -9
        assert place.rows("SELECT * FROM facts") == []
        (result,) = place.call("fail")
        assert result.error == "ValueError: no such return"
        with pytest.raises(ProgramFailed, match="defines no function absent"):
            place.call("absent")
        ended = place.start_call("fail")
        with pytest.raises(ProgramFailed, match="had not passed 'after-commit'"):
            ended.wait_for("after-commit")


def test_reset_during_a_step_is_named(course_lab: Lab, file: Path) -> None:
    """If the lab is reset while a step runs or after it, the error reports the reset, and the next run works."""

    def reset_and_read(place: Workplace) -> None:
        course_lab.extensions.remove(place.name)  # as a reset does
        place.rows("SELECT 1")

    def read(place: Workplace) -> list[dict[str, object]]:
        return place.rows("SELECT 1 AS one")

    with closing(BuildStep(course_lab, replace(task("outbox"), try_out=reset_and_read))) as step:
        with pytest.raises(KitError, match=r"(?s)The lab was reset.*step.run\(\)"):
            step.run(file)
        with pytest.raises(KitError, match="The lab was reset"):
            step.rows("SELECT 1")
    with closing(BuildStep(course_lab, replace(task("outbox"), try_out=read))) as step:
        assert step.run(file) == [{"one": 1}]
