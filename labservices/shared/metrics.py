"""What Prometheus may read of a service. Every label has few values, whatever the outside sends."""

from prometheus_client import Counter, Histogram

HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from a request to its answer",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

# outcome: handled; duplicate (it stood in the inbox); ignored (does not concern this service); failed (to be tried
# again); behind (parked behind one that failed)
EVENTS = Counter("events_total", "Events taken from Kafka", ["type", "outcome"])
EVENT_DURATION = Histogram(
    "event_handling_seconds",
    "Time that an event's transaction took",
    ["type"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
)

# outcome: as above, and dead (given up, and sent to the dead-letter topic)
PARKED = Counter("parked_records_total", "Tries of parked records", ["outcome"])
