"""The deadline: an order that is not finished in time is cancelled.

An order may wait for an answer that never arrives, because a service is down for long or the event is a dead letter. So
the order service checks the age of its open orders. It publishes OrderTimedOut through its own outbox, which starts a
cancellation like any other.
"""

from sqlalchemy import bindparam, func, select

from labservices.events import DEADLINE_EXCEEDED, OrderTimedOut
from labservices.order.domain import Change, Status
from labservices.order.handlers import change_status, facts
from labservices.order.tables import orders
from labservices.settings import Settings
from labservices.storage.database import Database

BATCH_SIZE = 50
"""Maximum number of orders per transaction: after a long outage many may be late, and the handlers need the rows."""

# A locked order is being handled, so it is making progress. It is skipped until the next check.
_LATE_ORDERS = (
    select(orders)
    .where(
        orders.c.status.in_([Status.PENDING, Status.RESERVED, Status.PAID]),
        orders.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds")),
    )
    .order_by(orders.c.order_id)
    .limit(BATCH_SIZE)
    .with_for_update(skip_locked=True)
)


def time_out_late_orders(database: Database, settings: Settings) -> int:
    """Time out the open orders that are older than the deadline, and return their number.

    Raises
    ------
    DatabaseUnavailable
        If the database is unavailable.
    """
    with database.transaction() as tx:
        late = tx.execute(_LATE_ORDERS, {"seconds": settings.order_deadline_seconds}).all()
        for order in late:
            event_id = tx.publish(OrderTimedOut(**facts(order), reason=DEADLINE_EXCEEDED))
            change_status(tx, order, [Change(Status.CANCELLING, DEADLINE_EXCEEDED, event_id)])
        return len(late)
