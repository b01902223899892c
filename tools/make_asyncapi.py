"""Write ``docs/asyncapi.yaml``, the event contracts, from the event models and the services' handlers.

Run it after a change to either: ``python tools/make_asyncapi.py``. A test compares the file with them.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from labservices import contract
from labservices.contract import events_topic
from labservices.events import EVENTS, Event
from labservices.service import Service

SERVICES: tuple[Service, ...] = tuple(import_module(f"labservices.{name}").service for name in contract.SERVICES)
FILE = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
PARTITIONS = 4

DESCRIPTION = """\
The events that the four services of the lab publish. Debezium's outbox event router writes every record from a
row of the publishing service's `outbox` table. The key is the order's id, so the events of one order stay in
order within a topic. A record is delivered at least once; `ce_id` identifies its event.

A consumer ignores unknown types and fields. A record is invalid if its major version (in `ce_dataschema`) is
unknown, its payload is invalid, or its key or `ce_id` is missing.
"""


def make_asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    modes: list[tuple[type[Event], Any]] = [(event, "validation") for event in EVENTS.values()]
    _, schemas = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Saga Lab events", "version": "1.0.0", "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {_channel(service.name): _describe_channel(service.name) for service in SERVICES},
        "operations": _operations(),
        "components": {
            "messages": {name: _describe_message(event) for name, event in EVENTS.items()},
            "schemas": {**schemas["$defs"], "Headers": HEADERS, "OrderId": {"type": "string", "format": "uuid"}},
        },
    }


HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0 in Kafka's binary mode, and the lab's additional headers; each value is text",
    "required": ["ce_id", "ce_type", "ce_source", "ce_time", "ce_specversion", "ce_dataschema", "content-type"],
    "properties": {
        "ce_id": {"type": "string", "format": "uuid", "description": "the event's id, a UUID version 7"},
        "ce_type": {"type": "string", "enum": list(EVENTS), "description": "the event type, the message's name"},
        "ce_source": {"type": "string", "description": "the publishing service: urn:sagalab:SERVICE"},
        "ce_time": {
            "type": "string",
            "format": "date-time",
            "description": "when the event was appended to the outbox",
        },
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_dataschema": {
            "type": "string",
            "pattern": r"^urn:sagalab:[A-Za-z]+:\d+\.\d+$",
            "description": "the payload's schema with its version: urn:sagalab:TYPE:MAJOR.MINOR",
        },
        "content-type": {"type": "string", "const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C Trace Context: the span that published the event"},
        "causation_id": {
            "type": ["string", "null"],
            "format": "uuid",
            "description": "the id of the event that caused this one, if any",
        },
    },
}


def _channel(service: str) -> str:
    return f"{service}Events"


def _events_of(service: str) -> list[type[Event]]:
    return [event for event in EVENTS.values() if event.topic == events_topic(service)]


def _describe_channel(service: str) -> dict[str, Any]:
    return {
        "address": events_topic(service),
        "description": f"The events that the {service} service publishes.",
        "messages": {event.type(): {"$ref": f"#/components/messages/{event.type()}"} for event in _events_of(service)},
        "bindings": {"kafka": {"partitions": PARTITIONS}},
    }


def _operations() -> dict[str, Any]:
    operations = {}
    for service in SERVICES:
        operations[f"{service.name}Says"] = _operation("send", service.name, _events_of(service.name))
        for writer in SERVICES:
            handled = [event for event in _events_of(writer.name) if event in service.handlers]
            if handled:
                name = f"{service.name}Hears{writer.name.capitalize()}"
                operations[name] = _operation("receive", writer.name, handled)
    return operations


def _operation(action: str, writer: str, events: list[type[Event]]) -> dict[str, Any]:
    channel = f"#/channels/{_channel(writer)}"
    messages = [{"$ref": f"{channel}/messages/{event.type()}"} for event in events]
    return {"action": action, "channel": {"$ref": channel}, "messages": messages}


def _describe_message(event: type[Event]) -> dict[str, Any]:
    return {
        "name": event.type(),
        "summary": event.__doc__,
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": f"#/components/schemas/{event.type()}"},
        "bindings": {"kafka": {"key": {"$ref": "#/components/schemas/OrderId"}}},
    }


def as_yaml(document: dict[str, Any]) -> str:
    """Return the document as YAML. The same document gives the same text."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"# Made by tools/make_asyncapi.py; don't edit.\n{text}"


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes multi-line strings as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


if __name__ == "__main__":
    FILE.write_text(as_yaml(make_asyncapi()), encoding="utf-8")
    print(f"wrote {FILE.relative_to(Path.cwd()) if FILE.is_relative_to(Path.cwd()) else FILE}")
