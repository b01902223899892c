"""The traces of orders, from Jaeger or from the services' span files."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from labkit.client.shop import Order
from labkit.inspect.by_service import wait_for_rest
from labkit.inspect.scope import Scope
from labkit.sources.traces import FileSource, JaegerSource, NoTraces, Source
from labkit.views.drawing.waterfall import Waterfall
from labkit.waiting import wait_until
from labstack.arguments import Seconds, checked_class
from labstack.lab import access_of

QUIET = 1.0
"""Seconds without a new span after which a trace counts as complete; services export their spans every 0.5 s."""


@checked_class
class Traces:
    """Finds traces.

    Parameters
    ----------
    scope : Scope
        The lab.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @property
    def source(self) -> Source:
        """Where the traces come from: Jaeger, else the span files."""
        lab = self._scope.lab
        endpoints = lab.endpoints
        if endpoints.jaeger:
            return JaegerSource(endpoints.jaeger)
        if not access_of(lab).state().observed:
            raise NoTraces(
                "This lab keeps no traces: it was started with LAB_OBSERVABILITY=off.",
                next_step="`lab down`, unset LAB_OBSERVABILITY, `lab up`",
            )
        names, extensions = [*endpoints.services, *endpoints.versions], lab.extensions

        def read() -> list[str]:
            backend = access_of(lab).backend()
            spans = [backend.spans(name) for name in names]
            return [*spans, *(extensions.spans(name) for name in extensions.names)]

        return FileSource(read)

    def all_of(self, order: Order | str, timeout: Seconds = 20) -> list[Waterfall]:
        """Return the traces that mention an order, oldest first: one, unless the trace was cut."""
        order_id = self._scope.order_id(order)
        wait_for_rest(self._scope.endpoints, {order_id}, None, timeout)
        source = self.source
        before, since = -1, time.monotonic()

        def is_quiet() -> list[Any]:
            nonlocal before, since
            found = source.of_order(order_id)
            count = sum(len(trace.spans) for trace in found)
            if count != before:
                before, since = count, time.monotonic()
            return found if time.monotonic() - since > QUIET else []

        name = self._scope.aliases.tidy(order_id)
        found = wait_until(is_quiet, timeout, what=f"the spans of {name}", interval=0.15)
        return [Waterfall(trace) for trace in found]

    def so_far(self, order: Order | str) -> list[Waterfall]:
        """Return the traces that mention an order, with the spans that are available now."""
        return [Waterfall(trace) for trace in self.source.of_order(self._scope.order_id(order))]

    def of(self, what: Order | str, timeout: Seconds = 20) -> Waterfall:
        """Return the trace of an order, or the one with a trace id.

        Raises
        ------
        NoTraces
            The lab stores no traces, or the trace store does not answer.
        WaitTimedOut
            There is no such trace.
        """
        if isinstance(what, str) and len(what) == 32 and not what.startswith("order"):
            found = wait_until(partial(self.source.trace, what), timeout, what=f"the trace {what}")
            assert found is not None  # else the wait has raised
            return Waterfall(found)
        return self.all_of(what, timeout)[0]
