"""The descriptions of Grafana's dashboards, which `make_dashboards.py` writes.

A dashboard is a list of rows, a row a list of panels, a panel a title, a sentence and its queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labkit.views.drawing.colours import GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW

SHOP = 'route!~"/metrics|/healthz.*|/manage.*"'
"""PromQL matcher for requests of customers and shopkeepers, without health checks and other internal routes."""

OUTCOMES = {".*completed.*": GREEN, ".*cancelled.*": VERMILION}
"""The colours of outcomes, by the legends of their lines."""

REASONS = {
    "cancelled insufficient_stock": ORANGE,
    "cancelled unknown_customer": PURPLE,
    "cancelled insufficient_funds": YELLOW,
    "cancelled no_carrier": SKY,
    "cancelled cancelled_by_customer": GREY,
    "cancelled deadline_exceeded": VERMILION,
}
"""A colour for each reason of a cancellation."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes
    ----------
    title, description : str
        Title, and an explanation of how to read the panel.
    queries : mapping
        PromQL by the legend's text, in which ``{{label}}`` stands for a label.
    unit : str
        Grafana's name of the unit.
    number : bool
        Whether to show the newest value as a number instead of a chart.
    exemplars : bool
        Whether to draw exemplars, the dots that link to traces.
    decimals : int, optional
        Number of decimals; default: Grafana's choice.
    colours : mapping
        Colours of lines, by a regular expression for their legends. A service's lines have its colour.
    dashes : mapping
        Styles of lines (``dash`` or ``dot``), by a regular expression for their legends.
    steps : sequence of tuple
        For a number: values from which it has another colour. Without them it is never red.
    """

    title: str
    description: str
    queries: Mapping[str, str]
    unit: str = "short"
    number: bool = False
    exemplars: bool = False
    decimals: int | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    dashes: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Row:
    """Panels side by side, all of the same width."""

    panels: Sequence[Panel]
    height: int = 8


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row] = field(default_factory=tuple)


def quantile(q: float, histogram: str, by: str, more: str = "") -> str:
    """Return the PromQL of a quantile, grouped by labels."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{more}}}[$__rate_interval])))"


SAGA = Board(
    "saga",
    "Saga",
    "What becomes of orders: how many come to which end, how long that takes, and what is on its way.",
    [
        Row(
            [
                Panel(
                    "Orders completed in the last minute",
                    "Orders that went the whole way, from the request to the parcel. Prometheus estimates the number.",
                    {"completed": 'round(sum(increase(saga_orders_total{outcome="completed"}[1m])))'},
                    number=True,
                    decimals=0,
                ),
                Panel(
                    "Orders cancelled in the last minute",
                    "Orders that were undone, whatever the reason (an estimate). The row below has the reasons.",
                    {"cancelled": 'round(sum(increase(saga_orders_total{outcome="cancelled"}[1m])))'},
                    number=True,
                    decimals=0,
                ),
                Panel(
                    "Orders on their way",
                    "Orders that are neither completed nor cancelled. If it stays above zero, orders are stuck.",
                    {"open": "sum(max by (status) (saga_open_orders))"},
                    number=True,
                    decimals=0,
                ),
                Panel(
                    "Oldest order on its way",
                    "An order takes a tenth of a second; after 30 s it is called off.",
                    {"age": "max(saga_oldest_open_order_age_seconds)"},
                    "s",
                    number=True,
                    steps=((10, ORANGE), (30, VERMILION)),
                ),
                Panel(
                    "Alerts that fire",
                    "Number of firing alerts. Prometheus' page Alerts names them; marks in the charts show when.",
                    {"firing": 'count(ALERTS{alertstate="firing"}) or vector(0)'},
                    number=True,
                    decimals=0,
                    steps=((1, VERMILION),),
                ),
            ],
            4,
        ),
        Row(
            [
                Panel(
                    "Ends of orders",
                    "How many orders a second come to their end, by outcome and reason.",
                    {"{{outcome}} {{reason}}": "sum by (outcome, reason) (rate(saga_orders_total[$__rate_interval]))"},
                    "ops",
                    colours=OUTCOMES | REASONS,
                ),
                Panel(
                    "From the order to its end",
                    "Half of the orders take less than the lower line, one in twenty more than the upper. A dot is "
                    "one order: "
                    "it leads to its trace.",
                    {
                        "median, {{outcome}}": quantile(0.5, "saga_duration_seconds", "outcome"),
                        "95%, {{outcome}}": quantile(0.95, "saga_duration_seconds", "outcome"),
                    },
                    "s",
                    exemplars=True,
                    colours=OUTCOMES,
                    dashes={"median.*": "dash"},
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Orders on their way, by status",
                    "Where orders wait: PENDING for inventory, RESERVED for payment, PAID for shipping, CANCELLING "
                    "for what undoes.",
                    {"{{status}}": "max by (status) (saga_open_orders)"},
                ),
                Panel(
                    "Steps undone",
                    "Compensations a second: stock released, money refunded, shipments cancelled.",
                    {"{{type}}": "sum by (type) (rate(saga_compensations_total[$__rate_interval]))"},
                    "ops",
                ),
            ]
        ),
    ],
)

SERVICES_RED = Board(
    "services",
    "Services (RED)",
    "Rate, errors and duration of each service: of its requests, and of the events that it handles.",
    [
        Row(
            [
                Panel(
                    "Requests",
                    "Rate: requests a second that each service answers, without health checks.",
                    {"{{service}}": f"sum by (service) (rate(http_requests_total{{{SHOP}}}[$__rate_interval]))"},
                    "reqps",
                ),
                Panel(
                    "Share of errors",
                    "Errors: the share of answers that say it was the service's fault (5xx), or the client's (4xx).",
                    {
                        f"{{{{service}}}} {name}": (
                            f"sum by (service) (rate(http_requests_total{{{SHOP}"
                            f',status=~"{codes}"}}[$__rate_interval])) '
                            f"/ clamp_min(sum by (service) (rate(http_requests_total{{{SHOP}}}[$__rate_interval])), "
                            "1e-9)"
                        )
                        for name, codes in (("5xx", "5.."), ("4xx", "4.."))
                    },
                    "percentunit",
                    dashes={".*4xx": "dash"},
                ),
                Panel(
                    "Duration of requests",
                    "Duration: within which time 95% of the answers came.",
                    {"{{service}}": quantile(0.95, "http_request_duration_seconds", "service", SHOP)},
                    "s",
                    exemplars=True,
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Events",
                    "Events a second that each service takes from Kafka and has to do with.",
                    {
                        "{{service}}": 'sum by (service) (rate(events_total{outcome!="ignored"}[$__rate_interval]))',
                    },
                    "ops",
                ),
                Panel(
                    "Events that were no success",
                    "Duplicates that the inbox has stopped, failures that are tried again, and what waits behind them.",
                    {
                        "{{service}} {{outcome}}": (
                            "sum by (service, outcome) "
                            '(rate(events_total{outcome=~"duplicate|failed|behind"}[$__rate_interval]))'
                        )
                    },
                    "ops",
                    dashes={".*duplicate": "dot", ".*behind": "dash"},
                ),
                Panel(
                    "Duration of handling",
                    "Within which time 95% of the events were handled, the transaction included.",
                    {"{{service}}": quantile(0.95, "event_handling_seconds", "service")},
                    "s",
                    exemplars=True,
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Parked records",
                    "Records that could not be handled: they are retried, wait behind another, or are dead letters.",
                    {"{{service}} {{state}}": "max by (service, state) (parked_records_current)"},
                ),
                Panel(
                    "Memory",
                    "What each service occupies.",
                    {"{{service}} {{version}}": 'process_resident_memory_bytes{job="services"}'},
                    "bytes",
                ),
                Panel(
                    "CPU",
                    "Cores that each service keeps busy.",
                    {"{{service}} {{version}}": 'rate(process_cpu_seconds_total{job="services"}[$__rate_interval])'},
                ),
            ]
        ),
    ],
)

RELAY = Board(
    "relay",
    "Relay (outbox, Debezium, Kafka)",
    "From the outbox row to the handler: what waits, for how long, and what PostgreSQL keeps for the relay.",
    [
        Row(
            [
                Panel(
                    "Outbox rows that wait",
                    "Rows that the relay has not taken yet. At rest there are none.",
                    {"{{service}}": "max by (service) (outbox_waiting_rows)"},
                ),
                Panel(
                    "Age of the oldest that waits",
                    "For how long the relay has been away, as its rows see it.",
                    {"{{service}}": "max by (service) (outbox_waiting_age_seconds)"},
                    "s",
                ),
                Panel(
                    "Connectors that run",
                    "1 where Debezium's task runs, 0 where it doesn't.",
                    {"{{connector}}": "connect_task_running"},
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "From the row to the record",
                    "Within which time 95% of the outbox rows were in Kafka.",
                    {"{{topic}}": quantile(0.95, "event_relay_seconds", "topic")},
                    "s",
                    exemplars=True,
                ),
                Panel(
                    "From the row to a handler",
                    "Within which time 95% of the events had reached their consumers.",
                    {"{{topic}}": quantile(0.95, "event_delivery_seconds", "topic")},
                    "s",
                ),
                Panel(
                    "Consumer lag",
                    "Records that a service's group has still to do.",
                    {"{{service}}": "sum by (service) (max by (service, topic, partition) (consumer_lag_records))"},
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Events written",
                    "Events a second that committed transactions have left in the outbox.",
                    {"{{service}}": "sum by (service) (rate(outbox_events_total[$__rate_interval]))"},
                    "ops",
                ),
                Panel(
                    "Log kept for the slot",
                    "Write-ahead log that PostgreSQL keeps since its reader might ask for it. At 512 MB it gives the "
                    "slot up.",
                    {"{{database}}": "postgres_replication_slot_retained_wal_bytes"},
                    "bytes",
                ),
                Panel(
                    "Slots with a reader",
                    "1 where Debezium reads the slot, 0 where it does not.",
                    {"{{database}}": "postgres_replication_slot_active"},
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Debezium behind its database",
                    "Time from the last commit that Debezium has read until it read it, by Debezium's own account.",
                    {"{{database}}": "clamp_min(debezium_behind_source_seconds, 0)"},
                    "s",
                ),
                Panel(
                    "Records into Kafka",
                    "Records a second that the broker has taken in, by topic.",
                    {"{{topic}}": "rate(kafka_topic_messages_in_total[$__rate_interval])"},
                    "ops",
                ),
                Panel(
                    "The broker's answers",
                    "Within which time 99% of the latest requests were answered. A fetch waits for records: half a "
                    "second is its rest.",
                    {"{{request}}": "kafka_request_p99_seconds"},
                    "s",
                ),
            ]
        ),
    ],
)

TO_SERVICES = 'job="gateway", service!=""'


def to_services(metric: str) -> str:
    """Return the PromQL of a rate for those of the gateway's destinations that have received requests."""
    rate = f"sum by (service, version) (rate({metric}{{{TO_SERVICES}}}[$__rate_interval]))"
    return f"{rate} and on (service, version) (envoy_cluster_upstream_rq_total{{{TO_SERVICES}}} > 0)"


GATEWAY = Board(
    "gateway",
    "Gateway",
    "What Envoy sees of the requests: what comes in, what goes to which service, what is held back.",
    [
        Row(
            [
                Panel(
                    "Answers to clients",
                    "Answers a second, by the first digit of their status. Those of the gateway itself are among them.",
                    {
                        "{{envoy_response_code_class}}xx": (
                            "sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx"
                            '{envoy_http_conn_manager_prefix!="admin"}[$__rate_interval]))'
                        )
                    },
                    "reqps",
                    colours={"2xx": GREEN, "3xx": SKY, "4xx": ORANGE, "5xx": VERMILION},
                ),
                Panel(
                    "Requests to services",
                    "Requests a second that the gateway has sent on, by where to.",
                    {"{{service}} {{version}}": to_services("envoy_cluster_upstream_rq_total")},
                    "reqps",
                ),
                Panel(
                    "Duration upstream",
                    "Within which time 95% of the services' answers came, as the gateway has measured it.",
                    {
                        "{{service}} {{version}}": (
                            "histogram_quantile(0.95, sum by (service, version, le) "
                            f"(rate(envoy_cluster_upstream_rq_time_bucket{{{TO_SERVICES}}}[$__rate_interval])))"
                        )
                    },
                    "ms",
                ),
            ]
        ),
        Row(
            [
                Panel(
                    "Connections of clients",
                    "Connections that are open at the gateway.",
                    {"open": 'sum(envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix!="admin"})'},
                ),
                Panel(
                    "Tried again",
                    "Retries a second, by where to. A storm of them begins here.",
                    {"{{service}} {{version}}": to_services("envoy_cluster_upstream_rq_retry")},
                    "reqps",
                ),
                Panel(
                    "Held back",
                    "Requests a second that a circuit breaker has refused.",
                    {"{{service}} {{version}}": to_services("envoy_cluster_upstream_rq_pending_overflow")},
                    "reqps",
                ),
            ]
        ),
    ],
)

BOARDS = (SAGA, SERVICES_RED, RELAY, GATEWAY)
