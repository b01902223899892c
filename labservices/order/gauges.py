"""The gauges of open orders: those neither completed nor cancelled."""

from labservices.order.domain import Status
from labservices.telemetry.gauges import Gauge

OPEN = (Status.PENDING, Status.RESERVED, Status.PAID, Status.CANCELLING)
_IS_OPEN = f"status IN ({', '.join(repr(status.value) for status in OPEN)})"

GAUGES = (
    Gauge(
        "saga_open_orders",
        "Orders without a final status",
        ("status",),
        f"SELECT status, count(*) FROM orders WHERE {_IS_OPEN} GROUP BY status",
        tuple((status.value,) for status in OPEN),
    ),
    Gauge(
        "saga_oldest_open_order_age_seconds",
        "Age of the oldest order without a final status",
        (),
        "SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(created_at))), 0) "
        f"FROM orders WHERE {_IS_OPEN}",
    ),
)
