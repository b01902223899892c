"""A function that follows the causes of an event."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import CodeExercise, Rejected, call

Headers = dict[str, str]
EVENT = "PaymentRefunded"


class CausalChain(CodeExercise):
    """causation_id names the direct cause; the chain of causes explains an event."""

    name = "causal-chain"
    title = "Write the function that answers: how did this event come about?"
    level = 2
    minutes = 9
    functions = ("chain(records, event_id)",)
    hints = (
        "The header causation_id of one record is the ce_id of another one. Where does the way back end?",
        "A dict from ce_id to headers finds each record in one step, and makes duplicates harmless. Then a while "
        "loop: take the record, put its ce_type in front, go on with its causation_id, if it has one and you know "
        "that record.",
        'It begins:\n    by_id = {record["ce_id"]: record for record in records}',
    )
    answer = """
        def chain(records, event_id):
            by_id = {record["ce_id"]: record for record in records}
            types = []
            while event_id in by_id:
                types.insert(0, by_id[event_id]["ce_type"])
                event_id = by_id[event_id].get("causation_id")
            return types

        answer = chain
    """
    why = (
        "Each service copies the id of the event that it handles into the event that it publishes. Follow these ids "
        "back and you reach OrderCreated, which has none: a person caused it. Timestamps can't do this: "
        "InventoryReleased came before or after the refund, and did not cause it."
    )
    mistakes = (
        Wrong(
            """
            def chain(records, event_id):
                return [record["ce_type"] for record in records]

            answer = chain
            """,
            "not a cause",
        ),
        Wrong(
            """
            def chain(records, event_id):
                by_id = {record["ce_id"]: record for record in records}
                event = by_id[event_id]
                return [by_id[event["causation_id"]]["ce_type"], event["ce_type"]]

            answer = chain
            """,
            "stops too early",
        ),
        Wrong(
            """
            def chain(records, event_id):
                by_id = {record["ce_id"]: record for record in records}
                types = []
                while event_id:
                    types.insert(0, by_id[event_id]["ce_type"])
                    event_id = by_id[event_id].get("causation_id")
                return types

            answer = chain
            """,
            "KeyError",
        ),
        Wrong(
            """
            def chain(records, event_id):
                by_id = {record["ce_id"]: record for record in records}
                types = []
                while event_id in by_id:
                    types.append(by_id[event_id]["ce_type"])
                    event_id = by_id[event_id].get("causation_id")
                return types

            answer = chain
            """,
            "first cause first",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = bench.shop.follow(bench.shop.place_order("leslie", "tristan-da-cunha", {"matcha": 1}))
        bench.look.wait_for_rest(order)
        records = [
            {name: value for name, value in view.record.headers.items() if name in WANTED and value}
            for view in bench.look.kafka.records(order)
        ]
        event = next(record["ce_id"] for record in records if record["ce_type"] == EVENT)
        message = (
            f"{order}\ngiven.records has the headers of its {len(records)} records; given.event is the refund's ce_id."
        )
        return message, {"records": records, "event": event}

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (chain,) = functions
        records, event = bench.given.records, bench.given.event
        expected = _chain(records, event)
        self._compare(call(chain, _copy(records), event, when="For the refund"), expected)
        again = call(chain, _copy(records[::-1] + records), event, when="With each record twice, and the newest first")
        if again != expected:
            raise Rejected(
                f"With each record twice, and the newest first, chain returns {again}. Records have duplicates."
            )
        known = [record for record in records if record["ce_type"] != "OrderCreated"]
        later = call(chain, _copy(known), event, when="After the retention has removed OrderCreated from the topic")
        if later != expected[1:]:
            raise Rejected(f"After the retention has removed OrderCreated, chain returns {later}, not {expected[1:]}.")
        return right(" → ".join(expected))

    def _compare(self, found: Any, expected: list[str]) -> None:
        if found == expected:
            return
        if not isinstance(found, list):
            raise Rejected(f"chain returns {found!r}; it should return a list of event types.")
        if sorted(found) == sorted(expected):
            raise Rejected(f"These are the events, but the reader expects the first cause first: {expected[0]}, …")
        if others := [one for one in found if one not in expected]:
            raise Rejected(
                f"{others[0]} is not a cause of {EVENT}: a report would blame the wrong service. Follow the ids."
            )
        raise Rejected(f"The chain stops too early, at {found[0] if found else 'nothing'}: what was the cause of that?")


WANTED = ("ce_id", "ce_type", "causation_id")


def _copy(records: list[Headers]) -> list[Headers]:
    return [dict(record) for record in records]


def _chain(records: list[Headers], event: str | None) -> list[str]:
    by_id = {record["ce_id"]: record for record in records}
    types: list[str] = []
    while event in by_id:
        types.insert(0, by_id[event]["ce_type"])
        event = by_id[event].get("causation_id")
    return types
