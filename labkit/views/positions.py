"""Outbox, write-ahead log and topic side by side: the progress of events, as positions in three places."""

from __future__ import annotations

import contextlib
import html
import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import psycopg

from labkit.aliases import Aliases
from labkit.views.bounded import Bounded
from labkit.views.drawing.colours import BLUE, GREEN, GREY, ORANGE, SERVICES, VERMILION
from labkit.views.feed import REMEMBERED, Feed, Observation, States
from labkit.views.live import DrawnPage, LiveView
from labservices.contract import events_topic
from labstack import Lab
from labstack.clients import broker, consumer_groups
from labstack.clients.databases import connect
from labstack.errors import LabError

ROWS = 3
"""The number of outbox rows shown for each service."""

OFFSETS_EVERY = 1.0
"""Seconds between two queries of the broker."""

SHORTEST = 4096
"""The minimum length of the log that the ruler shows, in bytes."""

POSITIONS = """
    SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, pg_current_wal_lsn()::text,
        confirmed_flush_lsn - '0/0'::pg_lsn, confirmed_flush_lsn::text, restart_lsn::text,
        sent_lsn - '0/0'::pg_lsn, active
    FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots ON slot_name = 'outbox'
        LEFT JOIN pg_stat_replication ON pid = active_pid
"""
NEWEST = """
    SELECT id::text, type, aggregateid::text, wal_position - '0/0'::pg_lsn, wal_position::text FROM outbox
    WHERE type <> 'Canary' ORDER BY wal_position DESC LIMIT %s
"""

EARLIER_RECORDS = 50
"""The number of a partition's latest records that are read at the start. The records of the newest rows are among them,
because the relay publishes in the order of the log."""


@dataclass(frozen=True)
class Row:
    """An outbox row, its position in the log, and whether its record is in the topic."""

    event_id: str
    type: str
    order_id: str
    at: int
    lsn: str
    delivered: bool = False


@dataclass
class ServicePositions:
    """The positions of one service's events.

    Attributes
    ----------
    end, confirmed, sent : int, optional
        Bytes of the log written, confirmed by the relay and sent to it; None if there is no slot, or no reader.
    end_lsn, confirmed_lsn, restart_lsn : str
        The same positions in PostgreSQL's notation, and the start of the log that PostgreSQL keeps for the slot.
    active : bool
        Whether the slot has a reader.
    rows : list of Row
        The latest outbox rows, newest first.
    offsets : dict
        Next offset of each partition of the service's topic.
    behind : dict
        The number of records that each reader still has to handle.
    error : str
        The reason why the database is unavailable; empty if it is available.
    """

    end: int = 0
    end_lsn: str = "-"
    confirmed: int | None = None
    confirmed_lsn: str = "-"
    restart_lsn: str = "-"
    sent: int | None = None
    active: bool = False
    rows: list[Row] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    error: str = ""


class Positions(LiveView):
    """Outbox rows, the write-ahead log with its slot, and the topic's offsets, for each service.

    The topic shows whether a row was delivered. The slot's positions do not: the relay confirms a position later than
    it publishes, and it may have received a row that it can't publish.

    Parameters
    ----------
    feed : Feed
        The source of observations.
    lab : Lab
        The running lab.
    aliases : Aliases
        Names for the orders.
    """

    page_class = DrawnPage
    title = "Positions"
    pulse = 0.4

    def __init__(self, feed: Feed, lab: Lab, aliases: Aliases) -> None:
        self._endpoints = lab.endpoints
        self._aliases = aliases
        self.by_service = {service: ServicePositions() for service in self._endpoints.services}
        self._databases: dict[str, psycopg.Connection[Any]] = {}
        self._offsets_at = 0.0
        self._delivered: Bounded[str, bool] = Bounded(REMEMBERED)
        super().__init__(feed)

    def _start(self) -> None:
        super()._start()
        # The feed reads what arrives from now on.
        with self._lock:
            with contextlib.suppress(LabError):
                self._read_earlier_records()
            self.query()

    def apply(self, observations: list[Observation], states: States | None) -> None:
        """Note the delivered events; an observation also triggers the next query."""
        for one in observations:
            if one.stage == "record":
                self._delivered[one.event_id] = True

    def query(self) -> None:
        """Query the positions now."""
        for service, positions in self.by_service.items():
            try:
                self._query_log(service, positions)
                positions.error = ""
            except psycopg.Error as error:
                positions.error = f"{service}-db does not answer: {str(error).strip().splitlines()[0]}"
                positions.sent, positions.active = None, False
        if time.monotonic() - self._offsets_at > OFFSETS_EVERY:
            self._offsets_at = time.monotonic()
            with contextlib.suppress(LabError):
                self._query_topics()

    def _query_log(self, service: str, positions: ServicePositions) -> None:
        database = self._databases.get(service)
        if database is None or database.closed:
            url = self._endpoints.readable[service]
            database = connect(url, autocommit=True, timeout=1, options="-c statement_timeout=2000")
            self._databases[service] = database
        found = database.execute(POSITIONS).fetchone()
        assert found is not None  # the query always returns one row
        end, positions.end_lsn, confirmed, confirmed_lsn, restart_lsn, sent, active = found
        positions.end = int(end)
        positions.confirmed = None if confirmed is None else int(confirmed)
        positions.sent = None if sent is None else int(sent)
        positions.confirmed_lsn, positions.restart_lsn = confirmed_lsn or "-", restart_lsn or "-"
        positions.active = bool(active)
        rows = database.execute(NEWEST, [ROWS]).fetchall()
        with self._lock:
            positions.rows = [
                Row(event, kind, order, int(at), lsn, event in self._delivered) for event, kind, order, at, lsn in rows
            ]

    def _read_earlier_records(self) -> None:
        kafka = self._endpoints.kafka
        topics = [events_topic(service) for service in self.by_service]
        for message in broker.messages(kafka, topics, latest=EARLIER_RECORDS):
            self._delivered[broker.record_of(message).headers.get("ce_id") or ""] = True

    def _query_topics(self) -> None:
        kafka = self._endpoints.kafka
        topics = {events_topic(service): service for service in self.by_service}
        ends = broker.end_offsets(kafka, broker.partitions(kafka, topics))
        committed = {reader: consumer_groups.committed_offsets(kafka, reader) for reader in self.by_service}
        for topic, service in topics.items():
            offsets = {partition: end for (name, partition), end in ends.items() if name == topic}
            self.by_service[service].offsets = offsets
            self.by_service[service].behind = {
                reader: sum(max(0, end - committed[reader].get((topic, p), 0)) for p, end in offsets.items())
                for reader in self.by_service
                if any((topic, p) in committed[reader] for p in offsets)
            }

    # -- showing ---------------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """Return a row for each service: the newest outbox row, and the positions in the log and in the topic."""
        with self._lock:
            rows = [
                {
                    "service": service,
                    "newest row": positions.rows[0].type if positions.rows else "-",
                    "stands at": positions.rows[0].lsn if positions.rows else "-",
                    "in the topic": _yes_or_no(positions.rows[0].delivered) if positions.rows else "-",
                    "slot confirmed": positions.confirmed_lsn,
                    "log ends": positions.end_lsn,
                    "unconfirmed bytes": positions.end - (positions.confirmed or 0)
                    if positions.confirmed is not None
                    else None,
                    "reader": _yes_or_no(positions.active),
                    "topic's records": sum(positions.offsets.values()),
                    "behind": ", ".join(f"{reader} {n}" for reader, n in positions.behind.items()),
                }
                for service, positions in self.by_service.items()
            ]
        return pd.DataFrame(rows)

    def words(self) -> str:
        return self.table().to_string(index=False)

    @property
    def alt(self) -> str:
        """The picture in words."""
        summary = []
        for service, positions in self.by_service.items():
            waiting = sum(not row.delivered for row in positions.rows)
            behind = ", ".join(f"{reader} {n} behind" for reader, n in positions.behind.items())
            reader = "is read" if positions.active else "has no reader"
            summary.append(f"{service}: slot {reader}, {waiting} of the newest rows wait, {behind}")
        return "Positions. " + ". ".join(summary) + "."

    def html(self) -> str:
        """Return the view as HTML."""
        body = "".join(self._row(service, positions) for service, positions in self.by_service.items())
        heads = ("service", "outbox: newest rows", "write-ahead log, its newest end at the right", "topic", "readers")
        head = "".join(f"<th>{one}</th>" for one in heads)
        legend = (
            f"<small><span style='color:{ORANGE}'>◌</span> row that waits &nbsp; "
            f"<span style='color:{BLUE}'>●</span> row whose record is in the topic &nbsp; "
            f"<span style='color:{GREEN}'>▲</span> confirmed by the slot's reader &nbsp; "
            f"<span style='color:{VERMILION}'>▼</span> sent to it &nbsp; │ end of the log</small>"
        )
        return (
            f"<figure class='lk-positions' role='img' aria-label='{html.escape(self.alt, quote=True)}' "
            f"style='margin:0'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{legend}</figure>"
        )

    def _row(self, service: str, positions: ServicePositions) -> str:
        rows = "<br>".join(self._outbox_row(row) for row in positions.rows) or "-"
        offsets = " ".join(f"p{p}:<b>{end}</b>" for p, end in sorted(positions.offsets.items()))
        behind = "<br>".join(
            f"{html.escape(reader)}: {'up to date' if n == 0 else f'<b>{n} behind</b>'}"
            for reader, n in positions.behind.items()
        )
        colour = SERVICES.get(service, GREY)
        return (
            f"<tr><td><b><span style='color:{colour}'>■</span> {html.escape(service)}</b></td><td>{rows}</td>"
            f"<td>{self._ruler(positions)}</td><td>{html.escape(service)}.events<br>{offsets}</td><td>{behind}</td></tr>"
        )

    def _outbox_row(self, row: Row) -> str:
        colour, sign = (BLUE, "●") if row.delivered else (ORANGE, "◌")
        text = f"{row.type} · {self._aliases.known(row.order_id)}"
        return f"<span style='color:{colour}'>{sign}</span> {html.escape(text)} <small>{row.lsn}</small>"

    def _ruler(self, positions: ServicePositions) -> str:
        if positions.error:
            return f"✕ {html.escape(positions.error)}"
        if positions.confirmed is None:
            return "✕ there is no slot, so no reader knows where to continue"
        span = max(positions.end - positions.confirmed, SHORTEST) * 1.1
        width = 300

        def x(at: int) -> float:
            return 8 + (width - 16) * max(0.0, 1 - (positions.end - at) / span)

        marks = "".join(
            f"<circle cx='{x(row.at):.1f}' cy='22' r='4' fill='{BLUE if row.delivered else ORANGE}'/>"
            for row in positions.rows
            if positions.end - row.at < span
        )
        sent = (
            f"<text x='{x(positions.sent):.1f}' y='14' fill='{VERMILION}'>▼</text>"
            if positions.sent is not None
            else ""
        )
        behind = positions.end - positions.confirmed
        summary = f"{behind:,} bytes unconfirmed" + ("" if positions.active else " · <b>no process reads the slot</b>")
        return (
            f"<svg width='{width}' height='36' style='font-size:11px;text-anchor:middle'>"
            f"<line x1='8' y1='22' x2='{width - 8}' y2='22' stroke='{GREY}' stroke-width='2'/>"
            f"<line x1='{width - 8}' y1='12' x2='{width - 8}' y2='32' stroke='{GREY}' stroke-width='2'/>{marks}{sent}"
            f"<text x='{x(positions.confirmed):.1f}' y='35' fill='{GREEN}'>▲</text></svg><br>"
            f"<small>{positions.confirmed_lsn} … {positions.end_lsn} · {summary}</small>"
        )

    def batch(self) -> dict[str, Any] | None:
        self.query()
        return {"html": self.html()}

    def snapshot(self) -> dict[str, Any]:
        return {"html": self.html()}

    def stop(self) -> None:
        super().stop()
        for database in self._databases.values():
            database.close()

    def __repr__(self) -> str:
        return (
            "Outbox, write-ahead log and topic side by side: where each service's newest events are.\n"
            "`places.table()` returns the numbers as a table."
        )


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
