"""The deadline: an order that gets nowhere is called off.

An order may wait for an answer that never comes: a service is down for long, or its event lies among the dead letters.
So the service that owns the order looks at its clock. It says OrderTimedOut through its own outbox, and from there on
this is a cancellation like any other.
"""

from sqlalchemy import bindparam, func, select

from labservices.order.domain import Change, Status
from labservices.order.handlers import change_status, facts
from labservices.order.tables import orders
from labservices.settings import Settings
from labservices.shared.database import Database
from labservices.shared.events import DEADLINE_EXCEEDED, OrderTimedOut

AT_ONCE = 50
"""Orders in one transaction: after a long outage many may be late, and the handlers want their rows, too."""

# Who handles an order now has locked it. It is moving, so it is left for the next look.
_LATE = (
    select(orders)
    .where(
        orders.c.status.in_([Status.PENDING, Status.RESERVED, Status.PAID]),
        orders.c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("seconds")),
    )
    .order_by(orders.c.order_id)
    .limit(AT_ONCE)
    .with_for_update(skip_locked=True)
)


def call_off_late_orders(database: Database, settings: Settings) -> int:
    """Call off the orders that are older than the deadline; answer how many.

    Raises
    ------
    DatabaseAway
        When the database can't be reached.
    """
    with database.transaction() as tx:
        late = tx.execute(_LATE, {"seconds": settings.order_deadline_seconds}).all()
        for order in late:
            event_id = tx.publish(OrderTimedOut(**facts(order), reason=DEADLINE_EXCEEDED))
            change_status(tx, order, [Change(Status.CANCELLING, DEADLINE_EXCEEDED, event_id)])
        return len(late)
