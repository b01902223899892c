"""Step 1: the tables, and `request_return()`, which stores a return and its event in one transaction."""

from labkit.build.outbox.requirements import REQUIREMENTS
from labkit.build.outbox.trials import trials
from labkit.build.outbox.trying import try_out
from labkit.build.step import Task

HINTS = (
    'Look at the four services\' own outbox: `look.db.rows("order", "SELECT * FROM outbox LIMIT 3")`, and at what '
    "notebook 02 says about the transaction that writes it.",
    "`with Session.begin() as session:` commits once, at its end, or rolls back. Make the id in Python "
    "(`uuid.uuid4()`), so that row and event have it before the database does. `insert(Return)` of "
    "sqlalchemy.dialects.postgresql has `on_conflict_do_nothing(...)` and `returning(...)`.",
    """The tables and the transaction begin like this.
    return_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    order_id: Mapped[uuid.UUID] = mapped_column(unique=True)
    ...
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    ...
    with Session.begin() as session:
        created = session.scalar(insert(Return).values(row).on_conflict_do_nothing(...).returning(Return.return_id))""",
)

TASK = Task(
    name="outbox",
    notebook="build-1",
    title="Step 1: request_return() stores a return and announces it.",
    requirements=REQUIREMENTS,
    hints=HINTS,
    trials=trials,
    try_out=try_out,
)

__all__ = ["TASK"]
