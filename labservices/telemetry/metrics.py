"""The Prometheus metrics of a service (docs/metrics.md). Every label has few values, whatever clients send.

The histograms, except event_delivery_seconds, carry exemplars: the trace id of one of the observations, if its trace is
recorded.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from labservices import events
from labservices.events import Event, OrderCancelled, OrderCompleted
from labservices.ids import creation_time

disable_created_metrics()  # they double the output, and Prometheus 2 stores them as separate series

HTTP_REQUESTS = Counter("http_requests_total", "Answered HTTP requests", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from a request to its response",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

ERROR_STATUSES = (400, 404, 409, 413, 422, 500, 503)
"""The statuses of the usual errors of a route; their counters start at 0."""

ACTIVE_FAULTS = Gauge("fault_switch_active", "1 for each fault switch that is on", ["switch"])

# outcome: handled; duplicate (its id was in the inbox); ignored (this service does not handle it); failed (parked, to
# be retried or dead-lettered; an extension service retries it without parking); behind (parked behind a record that
# failed)
EVENTS = Counter("events_total", "Events consumed from Kafka", ["type", "outcome"])
EVENT_DURATION = Histogram(
    "event_handling_seconds",
    "Duration of an event's transaction",
    ["type"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)
DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RELAY = Histogram(
    "event_relay_seconds",
    "Time from an outbox row to its record, as measured by the record's consumer",
    ["topic"],
    buckets=DELIVERY_BUCKETS,
)
DELIVERY = Histogram(
    "event_delivery_seconds",
    "Time from an outbox row until a handler receives its event",
    ["topic"],
    buckets=DELIVERY_BUCKETS,
)

# outcome: as above, except behind (its dead letter can't be published yet), and dead (dead-lettered: sent to the
# dead-letter topic)
PARKED = Counter("parked_records_total", "Attempts to handle parked records", ["outcome"])

OUTBOX = Counter("outbox_events_total", "Events of committed transactions", ["type"])
COMPENSATIONS = Counter("saga_compensations_total", "Compensated steps", ["type"])
SAGA_ORDERS = Counter("saga_orders_total", "Finished orders", ["outcome", "reason"])
SAGA_DURATION = Histogram(
    "saga_duration_seconds",
    "Time from placing an order to its final status",
    ["outcome"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60),
)

UNDO_EVENTS = {events.InventoryReleased, events.PaymentRefunded, events.ShipmentCancelled}
REASONS = {
    events.INSUFFICIENT_STOCK,
    events.UNKNOWN_CUSTOMER,
    events.INSUFFICIENT_FUNDS,
    events.NO_CARRIER,
    events.CANCELLED_BY_CUSTOMER,
    events.DEADLINE_EXCEEDED,
    events.ORDER_CANCELLED,
}


# PromQL's `increase` needs a sample from before an event, so each time series whose labels are known starts at 0.


def initialize_events(service: str, handled: Iterable[type[Event]]) -> None:
    """Initialize the metrics of the events that a service publishes and handles to 0."""
    for kind in events.EVENTS.values():
        if kind.topic == f"{service}.events":
            OUTBOX.labels(kind.type())
            if kind in UNDO_EVENTS:
                COMPENSATIONS.labels(kind.type())
            if kind is OrderCompleted:
                SAGA_ORDERS.labels("completed", "")
                SAGA_DURATION.labels("completed")
            if kind is OrderCancelled:
                SAGA_DURATION.labels("cancelled")
                for reason in sorted({*REASONS, "other"} - {events.ORDER_CANCELLED}):
                    SAGA_ORDERS.labels("cancelled", reason)
    for kind in handled:
        for outcome in ("handled", "duplicate", "failed", "behind"):
            EVENTS.labels(kind.type(), outcome)
        EVENT_DURATION.labels(kind.type())
        RELAY.labels(kind.topic)
        DELIVERY.labels(kind.topic)
    for outcome in ("ignored", "failed"):
        EVENTS.labels("unknown", outcome)
    for outcome in ("handled", "failed", "dead"):
        PARKED.labels(outcome)


def initialize_requests(method: str, route: str, successes: Iterable[int]) -> None:
    """Initialize the metrics of a route's requests to 0.

    Parameters
    ----------
    method : str
        The HTTP method.
    route : str
        The path, with parameters in braces.
    successes : iterable of int
        The statuses of its successful responses.
    """
    for status in (*successes, *ERROR_STATUSES):
        HTTP_REQUESTS.labels(method, route, status)
    HTTP_DURATION.labels(method, route)


def exemplar() -> dict[str, str] | None:
    """Return the current trace id as an exemplar, or None if the trace is not recorded."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.is_valid and context.trace_flags.sampled else None


def count_published(event: Event) -> None:
    """Count a published event after its transaction is committed."""
    kind = event.type()
    OUTBOX.labels(kind).inc()
    if type(event) in UNDO_EVENTS:
        COMPENSATIONS.labels(kind).inc()
    elif isinstance(event, OrderCompleted):
        _count_finished_order(event, "completed", "")
    elif isinstance(event, OrderCancelled):
        _count_finished_order(event, "cancelled", event.reason if event.reason in REASONS else "other")


def _count_finished_order(event: Event, outcome: str, reason: str) -> None:
    SAGA_ORDERS.labels(outcome, reason).inc()
    SAGA_DURATION.labels(outcome).observe(since(creation_time(event.order_id)), exemplar())


def since(moment: datetime | None) -> float:
    """Return the seconds since a moment, or 0 if the moment is unknown or the clock was set back."""
    return max(0.0, time.time() - moment.timestamp()) if moment else 0.0


def observe_delivery(topic: str, created: datetime | None, recorded: datetime | None) -> None:
    """Observe the time from an event's outbox row to its record, and to its handler."""
    if created is None:
        return
    if recorded is not None:
        RELAY.labels(topic).observe(max(0.0, (recorded - created).total_seconds()), exemplar())
    DELIVERY.labels(topic).observe(max(0.0, (datetime.now(UTC) - created).total_seconds()))
