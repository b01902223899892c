"""The cheat sheet is correct: every snippet of docs/cheatsheet.md runs here on a real lab, in order."""

from __future__ import annotations

import ast
import contextlib
import re
import uuid
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import Producer

from labkit import Session, begin, wait_until
from labkit.exercises import course
from labkit.exercises.predictions import predictions
from labservices.order.domain import Status
from labstack import Lab
from labstack.cli import main
from tests.stack.intact import is_intact

ROOT = Path(__file__).resolve().parents[2]
SHEET = (ROOT / "docs" / "cheatsheet.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
EXECUTED = ("sh", "python", "sql", "promql")


def snippets(language: str) -> list[str]:
    """Return the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SHEET, re.M | re.S)


def commands(verb: str) -> list[list[str]]:
    """Return the words of the commands in the block that begins with `lab` and this verb."""
    (block,) = [block for block in snippets("sh") if block.startswith(f"lab {verb}")]
    return [line.partition("#")[0].split()[1:] for line in block.splitlines()]


def run(*words: str) -> str:
    """Run the `lab` command in this process from the repository's root, and return its output."""
    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, f"lab {' '.join(words)}: {done.output}"
    return done.stdout


@pytest.fixture
def fresh_lab(running_lab: Lab) -> Iterator[Lab]:
    """The lab as at the course's start; reset again if a snippet left it stopped or broken."""
    running_lab.reset()
    yield running_lab
    if not is_intact(running_lab):
        running_lab.up()
        running_lab.reset()


def test_every_block_is_run_except_the_state_diagram() -> None:
    """Every block is in a language that is run here, except one drawing of the states."""
    languages = re.findall(r"^```(\w+)$", SHEET, re.M)
    assert set(languages) == {*EXECUTED, "text"}
    assert languages.count("text") == 1
    assert SHEET.count("```") == 2 * len(languages)


@pytest.mark.parametrize("block", ["up", "stop"])
def test_commands_inspect_break_and_heal_the_lab(fresh_lab: Lab, block: str) -> None:
    """Each command that inspects, breaks or heals the lab works, and the lab is ready at the end."""
    for words in commands(block):
        run(*words)
    assert fresh_lab.status().state == "ready"
    assert fresh_lab.faults.active == {}


def test_the_dead_letter_commands_work(fresh_lab: Lab) -> None:
    """A dead letter is listed, shown and replayed after its cause is removed; an invalid one is discarded."""
    shop = begin("00", fresh_lab).shop
    fresh_lab.faults.on("payment", "poison-next")
    order = shop.place_order("ada", "lisbon", {"earl-grey": 1})
    (poisoned,) = wait_until(fresh_lab.dead_letters.all, 60)
    fresh_lab.faults.off("payment")
    producer = Producer({"bootstrap.servers": fresh_lab.endpoints.kafka})
    producer.produce("order.events", "{", str(uuid.uuid4()), headers={"ce_type": "OrderCreated"})
    producer.flush(10)
    wait_until(lambda: len(fresh_lab.dead_letters.all()) > 1, 60)
    hopeless = [letter for letter in fresh_lab.dead_letters.all() if letter.id != poisoned.id]
    for words in commands("dead-letters"):
        for letter in hopeless if "discard" in words else [poisoned]:
            run(*({"ID": letter.id, "ORDER": order.order_id}.get(word, word) for word in words))
    assert fresh_lab.dead_letters.all() == []
    assert shop.follow(order, 60).status in ("COMPLETED", "CANCELLED")


def test_the_gateway_commands_work(fresh_lab: Lab) -> None:
    """Routes, resources, log and differences are shown, and the lab's own configuration is restored at the end."""
    begin("00", fresh_lab).shop.products()
    output = {words[1]: run(*words) for words in commands("mesh")}
    assert "/orders" in output["routes"]
    assert "kind: VirtualService" in output["show"]
    assert "/inventory/products" in output["log"]


def test_the_python_snippets_run_in_order(fresh_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All snippets run in order in one namespace, as in a notebook; the waiting order is cancelled."""
    monkeypatch.chdir(tmp_path)  # a report is written there
    names: dict[str, Any] = {}
    for block in snippets("python"):
        exec(compile(ast.parse(block), "docs/cheatsheet.md", "exec"), names)
    assert names["shop"].order(names["order"]).status == "COMPLETED"
    assert names["shop"].order(names["waiting"]).status == "CANCELLED"


def test_methods_named_in_the_prose_exist(session: Session) -> None:
    """The methods that the prose names exist."""
    objects = {"lab": session.lab, "shop": session.shop, "look": session.look, "tasks": session.tasks}
    mentioned = re.findall(r"`(lab|shop|look|tasks)\.([\w.]+)\(", SHEET)
    assert len(mentioned) > 5
    assert [(owner, path) for owner, path in mentioned if not callable(attrgetter(path)(objects[owner]))] == []
    named = dict(re.findall(r"tasks\.(\w+)\(\"([\w-]+)\"", SHEET))
    del named["certificate"]  # names the learner
    exercises = {exercise.name for exercise in course()["01"]}
    assert set(named.values()) <= exercises | {prediction.name for prediction in predictions("01")}


def test_postgresql_answers_each_query(session: Session) -> None:
    """PostgreSQL answers each query, in the named service or in all."""
    session.shop.follow(session.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
    (block,) = snippets("sql")
    found = re.findall(r"-- (\w+): [^\n]+\n(.+?);\n", block, re.S)
    assert len(found) == block.count("-- ") == block.count(";\n")
    for service, query in found:
        for one in session.lab.endpoints.services if service == "any" else [service]:
            rows = session.look.db.rows(one, query)
            assert len(rows) or "parked_records" in query, query


def test_metrics_in_queries_are_documented() -> None:
    """Each metric in a query is documented in docs/metrics.md."""
    known = set(re.findall(r"^\| `(\w+)` \|", METRICS, re.M))
    (block,) = snippets("promql")
    for line in block.splitlines():
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by) \([^)]*\)|#.*", "", line)
        names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", bare)}
        assert names - known <= {"histogram_quantile"}, line
        assert names & known, line


def test_prometheus_accepts_each_query(session: Session) -> None:
    """Prometheus accepts each query, if the lab has one."""
    if not session.lab.endpoints.prometheus:
        pytest.skip("the lab has no Prometheus: `lab install prometheus`")
    session.shop.follow(session.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
    session.look.metrics.now()
    (block,) = snippets("promql")
    for line in block.splitlines():
        session.look.metrics.query(line)


def test_each_order_fails_with_the_listed_event_and_reason(fresh_lab: Lab) -> None:
    """Each order of the table fails with the listed event and reason."""
    shop, look = begin("00", fresh_lab)[1:3]
    table = re.findall(r"^\| [^|]*`([\w-]+)`[^|]* \| `(\w+Failed)` \| `(\w+)` \|$", SHEET, re.M)
    assert len(table) == 3
    usual = {"customer": "ada", "destination": "lisbon", "sku": "earl-grey"}
    fields = {"first-snow-white": "sku", "broke-bob": "customer", "tristan-da-cunha": "destination"}
    for value, event, reason in table:
        order = {**usual, fields[value]: value}
        ended = shop.follow(shop.place_order(order["customer"], order["destination"], {order["sku"]: 1}))
        assert (ended.status, ended.failure_reason) == ("CANCELLED", reason)
        assert event in set(look.kafka.events(look.kafka.records(ended)).type)


def test_all_topics_event_types_headers_and_states_are_listed() -> None:
    """The tables list each topic and event type of the contracts, each header, and each state of an order."""
    contracts = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    rows = dict(re.findall(r"^\| `(\w+\.events)` \|(.*)\|$", SHEET, re.M))
    listed = {topic: set(re.findall(r"`(\w+)`", row)) for topic, row in rows.items()}
    assert listed == {channel["address"]: set(channel["messages"]) for channel in contracts["channels"].values()}
    headers = SHEET.split("Headers: ")[1].split("\n")[0]
    assert set(re.findall(r"`([\w-]+)`", headers)) == set(contracts["components"]["schemas"]["Headers"]["properties"])
    (states,) = snippets("text")
    assert set(re.findall(r"[A-Z]{4,}", states)) == {status.value for status in Status}


@pytest.mark.long
def test_down_deletes_the_data_and_up_starts_a_new_lab(fresh_lab: Lab) -> None:
    """`lab down` stops the lab and deletes its data, and `lab up` starts a new one."""
    for words in commands("down"):
        run(*words)
    assert fresh_lab.status().state == "stopped"
    fresh_lab.up()
    assert fresh_lab.status().state == "ready"
