"""Step 2: a loop that reads parcels, and pays each refund once."""

from labkit.build.consumer.requirements import REQUIREMENTS
from labkit.build.consumer.trials import trials
from labkit.build.consumer.trying import try_out
from labkit.build.step import Task

HINTS = (
    "Look at the loop of the four services, labservices/messaging/consumer.py, and at notebooks 04 and 05: which comes "
    "first, the database's commit or the offset's commit? Which transaction writes the inbox?",
    "Set enable.auto.commit to False. Use `insert(Inbox)...on_conflict_do_nothing().returning(...)` in the refund's "
    "transaction (SQLAlchemy's `rowcount` is -1 for such an insert, which Python takes for true); "
    "`consumer.pause` for a partition whose record waits, with the record and its due time in a dictionary; "
    "`subscribe(..., on_revoke=...)` to forget it; `signal.signal(signal.SIGTERM, ...)` to end the loop; "
    "OperationalError is the outage of the database.",
    """The transaction and the loop begin like this.
    with Session.begin() as session:
        is_new = session.scalar(
            insert(Inbox).values(event_id=event_id).on_conflict_do_nothing().returning(Inbox.event_id)
        )
        if is_new:
            session.add(Refund(...))
    ...
    while running:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            attempt(message, 1)
        for waiting, attempts, due in list(waits.values()):
            if time.monotonic() >= due:
                attempt(waiting, attempts + 1)
    consumer.close()""",
)

TASK = Task(
    name="consumer",
    notebook="build-2",
    title="Step 2: a consumer that pays each refund once.",
    requirements=REQUIREMENTS,
    hints=HINTS,
    trials=trials,
    try_out=try_out,
)

__all__ = ["TASK"]
