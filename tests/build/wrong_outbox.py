"""Typical wrong answers of step 1."""

from __future__ import annotations

from tests.build.wrong import WrongAnswer

ADD_EVENT = "        session.add(\n            OutboxEvent("
IMPORTS = "import os\n"

PUBLISH = '''
def publish(event: dict[str, Any]) -> None:
    """Write an event to Kafka."""
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
    value = json.dumps(event["payload"], default=str)
    producer.produce(os.environ["RETURNS_TOPIC"], key=event["aggregateid"], value=value)
    producer.flush()


def request_return('''

WRONG = (
    WrongAnswer(
        "two transactions",
        ((ADD_EVENT, f"    with Session.begin() as session:\n{ADD_EVENT}"),),
        1,
        "makes 2 commits; undisturbed: 1 in returns, 1 in outbox\nkilled after commit 1: 1 in returns, 0 in outbox",
        "no service gets an event",
    ),
    WrongAnswer(
        "publish after the commit",
        (
            (IMPORTS, "import json\nimport os\n\nfrom confluent_kafka import Producer\n"),
            ("\ndef request_return(", PUBLISH),
            (ADD_EVENT, "    publish(\n            dict("),
        ),
        1,
        "publishes to Kafka itself; undisturbed: 1 in returns, 0 in outbox, 1 written to Kafka directly\n"
        "killed after commit 1: 1 in returns, 0 in outbox; after the customer asked again: 1 in returns, 0 in outbox\n",
        "no service gets an event",
    ),
    WrongAnswer(
        "publish before the commit",
        (
            (IMPORTS, "import json\nimport os\n\nfrom confluent_kafka import Producer\n"),
            ("\ndef request_return(", PUBLISH),
            (ADD_EVENT, "        publish(\n            dict("),
        ),
        1,
        "before commit 1: 0 in returns, 0 in outbox, 1 written to Kafka directly",
    ),
    WrongAnswer(
        "errors are swallowed",
        (
            ("    with Session.begin() as session:\n", "    session = Session()\n    try:\n"),
            (
                "    return str(created)\n",
                "        session.commit()\n    except Exception:\n        pass\n    return str(created)\n",
            ),
        ),
        2,
        "but request_return() returned",
        "the return is accepted, and the shop has not stored it",
    ),
    WrongAnswer(
        "data from before the change",
        (
            ('"status": "REQUESTED",', '"status": "NEW",'),
            (
                "    return str(created)\n",
                '        session.get(Return, created).status = "REQUESTED"\n    return str(created)\n',
            ),
        ),
        3,
        "status is 'NEW' in the event and 'REQUESTED' in returns",
        "a status that the return no longer has",
    ),
    WrongAnswer(
        "id made by the database after the event",
        (
            ("import DateTime, create_engine, select", "import DateTime, create_engine, select, text"),
            (
                "return_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)",
                "return_id: Mapped[uuid.UUID] = mapped_column(\n"
                '        primary_key=True, server_default=text("gen_random_uuid()")\n    )',
            ),
            ('        "return_id": uuid.uuid4(),\n', ""),
            ('"return_id": str(created)', '"return_id": row.get("return_id")'),
        ),
        3,
        "return_id is None in the event",
        "cannot find it",
    ),
    WrongAnswer(
        "JSON encoded twice",
        (
            (IMPORTS, "import json\nimport os\n"),
            ("payload={\n", "payload=json.dumps({\n"),
            ("                },\n                traceparent", "                }),\n                traceparent"),
        ),
        4,
        "a JSON text that contains JSON",
        "dead letter",
    ),
    WrongAnswer(
        "the return's id as the key",
        (("aggregateid=order_id", "aggregateid=str(created)"),),
        5,
        "aggregateid is",
        "overtake each other",
    ),
    WrongAnswer(
        "two returns for one order",
        (
            ("mapped_column(unique=True)", "mapped_column()"),
            ('.on_conflict_do_nothing(index_elements=["order_id"])', ""),
        ),
        1,
        "after the customer asked again: 2 in returns, 2 in outbox",
        "twice",
    ),
    WrongAnswer(
        "look first, then insert",
        (
            (
                "        created = session.scalar(\n",
                "        found = session.scalar(select(Return.return_id).where(Return.order_id == row['order_id']))\n"
                "        if found is not None:\n            return str(found)\n        created = session.scalar(\n",
            ),
            ('.on_conflict_do_nothing(index_elements=["order_id"])', ""),
        ),
        6,
        "of 200 calls raised, such as IntegrityError",
        "some customers get an error",
    ),
    WrongAnswer(
        "one session for all threads",
        (
            ("Session = sessionmaker(engine)\n", "Session = sessionmaker(engine)\nshared = Session()\n"),
            ("    with Session.begin() as session:\n", "    session = shared\n    with session.begin():\n"),
        ),
        6,
        "calls raised",
    ),
)
