"""``docs/asyncapi.yaml``: the event contracts."""

import json

import jsonschema
import yaml

from labservices.messaging.events import EVENTS
from tests.services.world import World
from tools.make_asyncapi import FILE, as_yaml, make_asyncapi


def test_the_committed_file_is_what_the_models_make() -> None:
    """The committed file is up to date with the models; if not, run ``python tools/make_asyncapi.py``."""
    assert FILE.read_text(encoding="utf-8") == as_yaml(make_asyncapi())


def test_every_reference_leads_somewhere_and_every_event_is_there() -> None:
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


def test_real_events_fit_the_contract(world: World) -> None:
    """Real events validate against the schemas of the file."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    world.place()
    world.place(destination="utopia")
    world.place(rare=5)
    world.settle()
    seen = set()
    for party in world.parties.values():
        for row in party.rows("outbox"):
            schema = {"$ref": f"#/components/schemas/{row.type}", "components": document["components"]}
            jsonschema.validate(json.loads(json.dumps(row.payload)), schema)
            seen.add(row.type)
    assert len(seen) >= 10
