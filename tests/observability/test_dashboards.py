"""Each panel of each dashboard shows data after a load."""

from __future__ import annotations

import time

import pytest

from labkit import Session
from labkit.errors import KitError
from labkit.sources.prometheus import is_number
from labkit.views import dashboards
from labkit.waiting import wait_until
from labstack import Lab

pytestmark = pytest.mark.needs("prometheus")


@pytest.fixture(scope="module")
def load_times() -> list[float]:
    """The time at which this module's load began, in seconds since the epoch; empty before the load."""
    return []


@pytest.fixture
def load_began(session: Session, load_times: list[float]) -> float:
    """Make the load, once for all panels, and return the time at which it began, in seconds since the epoch.

    Queries start at that time. A fixed number of seconds would miss the load on a slow machine, where the tests before
    take longer than that.
    """
    if not load_times:
        now = time.time()
        make_load(session)
        load_times.append(now)
    return load_times[0]


def make_load(session: Session) -> None:
    """Create data for every panel: completed and failed orders, duplicates, and requests that return 4xx and 5xx."""
    _, shop, look, _ = session
    look.metrics.now()
    orders = [shop.place_order(customer, "lisbon", {"earl-grey": 1}) for customer in ("ada", "nobody") * 6]
    shop.traffic(40, at_once=2)
    shop.traffic(10, "/orders/no-order")
    for order in orders:
        shop.follow(order)
    look.wait_for_rest(orders)
    session.lab.resend(orders[0].order_id)
    session.lab.stop("payment-db")
    shop.traffic(5, "/payments?limit=1")
    look.metrics.now()
    session.lab.start("payment-db")


@pytest.mark.parametrize("name", dashboards.names())
def test_every_query_has_data(session: Session, load_began: float, name: str) -> None:
    """After a load, each query of each panel returns a number from a real Prometheus."""
    _, panels = dashboards.panels(name)

    def queries_without_data() -> list[str]:
        now = time.time()
        found = []
        for panel in panels:
            for legend, expression in panel.queries:
                query = dashboards.filled(expression, 1, now - load_began)
                lines = session.look.metrics.prometheus.lines(query, load_began, now, 1)
                if not any(is_number(value) for _, line in lines for value in line):
                    found.append(f"{panel.title}: {legend}: {expression}")
        return found

    wait_until(lambda: not queries_without_data() or None, 20, what=f"data for {queries_without_data()}")


def test_the_first_errors_are_visible(session: Session, load_began: float) -> None:
    """The first error of its kind raises the share of errors, and a service without any errors has a share of 0."""

    def most(title: str) -> dict[str, float]:
        panel = next(panel for panel in dashboards.panels("services")[1] if panel.title == title)
        now = time.time()
        lines = dashboards.series_of(panel, session.look.metrics.prometheus, now - load_began, now)
        return {str(name): lines[name].max() for name in lines}

    found = most("Share of errors")
    assert found["order 4xx"] > 0
    assert found["payment 5xx"] > 0
    assert found["shipping 5xx"] == 0
    assert most("Events that were no success")["shipping failed"] == 0


def test_dashboard_text_has_a_line_for_each_series(session: Session) -> None:
    """A dashboard's text has a line for each series of each panel that has data."""
    table = dashboards.text("relay", session.look.metrics.prometheus, minutes=2)
    assert set(table[table.panel == "Slots with a reader"].series) == set(session.lab.endpoints.databases)


def test_unknown_dashboard_error_lists_the_known_ones(lab: Lab) -> None:
    """The error for an unknown dashboard lists the known ones."""
    with pytest.raises(KitError, match="Unknown dashboard 'sage'") as raised:
        dashboards.panels("sage")
    assert "saga" in str(raised.value)
