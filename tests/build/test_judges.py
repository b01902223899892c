"""Each step's judge passes the reference, and reports each wrong answer with its requirement and evidence."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.build import STEPS, task
from labstack.clients import broker
from labstack.waiting import wait_until
from tests.build import wrong_compensation, wrong_connector, wrong_consumer, wrong_orchestrator, wrong_outbox
from tests.build.conftest import MakePlace
from tests.build.wrong import WrongAnswer, check
from tests.suite.chance import short_sample

WRONG = {
    "outbox": wrong_outbox.WRONG,
    "consumer": wrong_consumer.WRONG,
    "compensation": wrong_compensation.WRONG,
    "connector": wrong_connector.WRONG,
    "orchestrator": wrong_orchestrator.WRONG,
}
EARLY = 3
"""The last requirement whose wrong answers are in the short form. Trials of later ones take up to a minute."""


def wrong_answers(name: str) -> list[Any]:
    """Return the wrong answers of a step as parameters. All are ``long`` but one that breaks an early requirement."""
    early = [(name, wrong) for wrong in WRONG[name] if wrong.requirement <= EARLY]
    late = [(name, wrong) for wrong in WRONG[name] if wrong.requirement > EARLY]
    return short_sample(early, 1) + short_sample(late, 0)


@pytest.mark.parametrize("name", short_sample(STEPS, 2))
def test_reference_keeps_all_requirements(make_place: MakePlace, name: str) -> None:
    """The reference keeps all requirements, the lab is ready afterwards, and no topic of the step is left."""
    place = make_place(task(name).reference)
    report = task(name).judge(place)
    assert report.passed, report
    wait_until(lambda: place.lab.status(memory=False).state == "ready", 60, what="the lab to be ready")
    place.close()
    assert [topic for topic in broker.topic_names(place.kafka) if place.name in topic] == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [one for name in STEPS for one in wrong_answers(name)],
    ids=lambda value: value.name.replace(" ", "-") if isinstance(value, WrongAnswer) else value,
)
def test_wrong_answers_are_distinguished(make_place: MakePlace, name: str, wrong: WrongAnswer) -> None:
    """Each wrong answer breaks its requirement, and the report has the evidence and the effect for a customer."""
    check(wrong, task(name), make_place(wrong.code(task(name))))
