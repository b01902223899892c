"""``docs/asyncapi.yaml``: the event contracts."""

import json

import jsonschema
import yaml

from labservices.events import EVENTS
from tests.services.world import World
from tools.make_asyncapi import FILE, as_yaml, make_asyncapi


def test_committed_file_matches_the_models() -> None:
    """The committed file is up to date with the models; if not, run ``python tools/make_asyncapi.py``."""
    assert FILE.read_text(encoding="utf-8") == as_yaml(make_asyncapi())


def test_every_reference_resolves_and_every_event_has_a_message() -> None:
    """Every reference resolves, and every event has a message."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert set(document["components"]["messages"]) == set(EVENTS)

    def check(part: object) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                target = document
                for name in part["$ref"].removeprefix("#/").split("/"):
                    target = target[name]
            for value in part.values():
                check(value)
        elif isinstance(part, list):
            for value in part:
                check(value)

    check(document)


def test_real_events_validate_against_the_schemas(world: World) -> None:
    """Real events validate against the schemas of the file."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    world.place()
    world.place(destination="utopia")
    world.place(rare=5)
    world.settle()
    seen = set()
    for harness in world.harnesses.values():
        for row in harness.rows("outbox"):
            schema = {"$ref": f"#/components/schemas/{row.type}", "components": document["components"]}
            jsonschema.validate(json.loads(json.dumps(row.payload)), schema)
            seen.add(row.type)
    assert len(seen) >= 10
