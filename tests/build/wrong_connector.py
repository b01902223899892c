"""Typical wrong answers of step 4."""

from __future__ import annotations

from tests.build.wrong import WrongAnswer

STRING = '"value.converter": "org.apache.kafka.connect.storage.StringConverter",'
JSON = '"value.converter": "org.apache.kafka.connect.json.JsonConverter",'
PUT = 'httpx.put(f"{CONNECTOR_URL}/config", json=config(topic, headers), timeout=30)'
TRY = "            answer = "
UNAVAILABLE = "            if time.monotonic() > deadline:\n                raise\n"

NEW_SLOT = """\
            if httpx.get(CONNECTOR_URL).status_code == 200:
                httpx.put(f"{CONNECTOR_URL}/stop").raise_for_status()
                while httpx.delete(f"{CONNECTOR_URL}/offsets").status_code != 200:
                    time.sleep(0.1)
                with psycopg.connect(DATABASE_URL, autocommit=True) as database:
                    database.execute("SELECT pg_drop_replication_slot(%s)", [os.environ["SLOT"]])
                    database.execute(SLOT, [os.environ["SLOT"]])
                httpx.put(f"{CONNECTOR_URL}/resume").raise_for_status()
"""

WRONG = (
    WrongAnswer(
        "a snapshot sends all again",
        (('"snapshot.mode": "no_data"', '"snapshot.mode": "initial"'),),
        2,
        "5 of 5 rows that were sent before are published again",
        "second courier",
    ),
    WrongAnswer(
        "JsonConverter encodes again",
        ((STRING, JSON),),
        1,
        "wrapped in schema and payload, and encoded twice",
        "dead letter",
    ),
    WrongAnswer(
        "JsonConverter without schemas",
        ((STRING, f'{JSON}\n        "value.converter.schemas.enable": "false",'),),
        1,
        "a JSON text that contains JSON",
        "dead letter",
    ),
    WrongAnswer(
        "the event's id as the key",
        (
            (
                '"transforms.outbox.table.field.event.key": "aggregateid"',
                '"transforms.outbox.table.field.event.key": "id"',
            ),
        ),
        1,
        "the key is",
        "overtake each other",
    ),
    WrongAnswer(
        "the router's own topic",
        (('        "transforms.outbox.route.topic.replacement": topic,\n', ""),),
        1,
        "it is in outbox.event.returns",
        "no one refunds it",
    ),
    WrongAnswer(
        "no topic creation",
        (('        "topic.creation.default.partitions": "4",\n', ""),),
        1,
        "it is in no topic; the connector is FAILED",
    ),
    WrongAnswer(
        "the slot is made by the connector",
        (('        database.execute(SLOT, [os.environ["SLOT"]])\n', ""),),
        3,
        "2 of 2 events from the time between prepare() and deploy() are in no topic",
        "no one refunds it",
    ),
    WrongAnswer(
        "a publication with too much",
        (("FOR TABLE outbox WITH", "FOR TABLE outbox, returns, customers WITH"),),
        4,
        "contains customers, outbox, returns",
        "bank details",
    ),
    WrongAnswer(
        "a publication of all changes",
        ((" WITH (publish = 'insert')", ""),),
        4,
        "publishes inserts, and also: update, delete, truncate",
        "clean-up",
    ),
    WrongAnswer(
        "errors are tolerated",
        (('"errors.tolerance": "none"', '"errors.tolerance": "all"'),),
        5,
        "and the connector is RUNNING. Kafka accepted it again, but 1 of 4 events never arrived",
        "no one refunds it",
    ),
    WrongAnswer(
        "no heartbeat",
        (
            ('        "heartbeat.interval.ms": "2000",\n', ""),
            ("        \"heartbeat.action.query\": \"SELECT pg_logical_emit_message(false, 'heartbeat', '')\",\n", ""),
        ),
        6,
        "the slot has not confirmed it, and retains 2",
        "until the disk is full",
    ),
    WrongAnswer(
        "a heartbeat that writes no log",
        (("        \"heartbeat.action.query\": \"SELECT pg_logical_emit_message(false, 'heartbeat', '')\",\n", ""),),
        6,
        "the slot has not confirmed it, and retains 2",
        "until the disk is full",
    ),
    WrongAnswer(
        "no retries",
        (('"errors.max.retries": "-1"', '"errors.max.retries": "0"'),),
        7,
        "an event is not published, and the connector is FAILED",
        "in the morning",
    ),
    WrongAnswer(
        "deploy gives up",
        ((UNAVAILABLE, "            raise\n"),),
        8,
        "deploy() failed: ConnectError",
        "misses returns",
    ),
    WrongAnswer(
        "deploy ignores that Connect is absent",
        ((UNAVAILABLE, "            return\n"),),
        8,
        "later events are not in the new topic",
        "misses returns",
    ),
    WrongAnswer(
        "POST creates, and changes nothing",
        (
            ("TEMPORARY = (404, 409, 500, 503)", "TEMPORARY = (404, 500, 503)"),
            (
                PUT,
                "httpx.post(\n                CONNECTOR_URL.rpartition('/')[0],\n"
                '                json={"name": os.environ["CONNECTOR"], "config": config(topic, headers)},\n'
                "            )",
            ),
        ),
        8,
        "409 Conflict",
        "misses returns",
    ),
    WrongAnswer(
        "headers that never change",
        (
            (
                '",".join(\n            f"{column}:header:{header}" for header, column in headers.items()\n        )',
                '"id:header:ce_id,type:header:ce_type,traceparent:header:traceparent"',
            ),
        ),
        8,
        "the header tenant is missing",
    ),
    WrongAnswer(
        "a second connector beside the first",
        (
            (
                '"slot.name": os.environ["SLOT"]',
                '"slot.name": os.environ["SLOT"] + ("_v2" if topic.endswith("v2") else "")',
            ),
            # With one prefix for both, the second connector waits a minute for the first one's JMX metrics to go.
            (
                '"topic.prefix": os.environ["CONNECTOR"]',
                '"topic.prefix": os.environ["CONNECTOR"] + ("-v2" if topic.endswith("v2") else "")',
            ),
            (
                "        try:\n",
                '        url = CONNECTOR_URL + ("-v2" if topic.endswith("v2") else "")\n        try:\n',
            ),
            ('f"{CONNECTOR_URL}/config"', 'f"{url}/config"'),
        ),
        8,
        "in the old topic, too",
        "two couriers",
    ),
    WrongAnswer(
        "a new slot for the change",
        ((TRY, f"{NEW_SLOT}{TRY}"),),
        8,
        "events from the time of the change are in no topic",
        "no one refunds it",
    ),
)
