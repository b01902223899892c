"""Many requests and their responses, on a real lab; shares and chance, by the binomial distribution."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from labkit import Session
from labkit.client.shares import at_least, at_most, interval, is_plausible
from labkit.client.traffic import HttpAnswer, Share, Traffic, meaning
from labkit.errors import KitError

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: order}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  http:
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
"""


@pytest.fixture
def aborting_session(session: Session) -> Iterator[Session]:
    """A lab whose gateway answers each request for orders with 418."""
    session.lab.mesh.apply(RULE)
    yield session
    session.lab.mesh.reset()


def invented_traffic(*answers: tuple[int, str, float]) -> Traffic:
    """Return traffic with invented responses."""
    return Traffic("GET /", [HttpAnswer(*one, trace=str(n)) for n, one in enumerate(answers)], lambda _: [])


def test_traffic_counts_responses_by_version_and_status(session: Session) -> None:
    """Ten requests are ten responses of v1, ten lines in the access log, and one line of text."""
    sent = session.shop.traffic(10, at_once=3)
    assert repr(sent) == "10 × GET /orders?limit=1: 10 × 200 from v1"
    assert (sent.statuses, sent.versions, sent.shares()) == ({200: 10}, {"v1": 10}, {"v1": 1.0})
    assert sent.table().values.tolist() == [["v1", 200, 10]]
    assert sent.flags().values.tolist() == [[200, "-", "-", 1, 10]]
    assert 0 < sent.fastest <= sent.slowest < 10


def test_the_gateway_returns_404_if_no_route_matches(session: Session) -> None:
    """If no route matches, the gateway returns 404, and its log has the flag and its meaning."""
    sent = session.shop.traffic(3, "/nowhere")
    assert sent.versions == {"gateway": 3}
    assert sent.flags().values.tolist() == [[404, "NR", "no route matches the request", 0, 3]]


def test_each_traffic_finds_its_own_lines_in_the_access_log(aborting_session: Session) -> None:
    """Each traffic object finds its own lines in the access log, even if later requests follow."""
    first = aborting_session.shop.traffic(2)
    second = aborting_session.shop.traffic(5, "/inventory/products?limit=1")
    assert first.flags().values.tolist() == [[418, "FI", "a fault was injected: an abort", 0, 2]]
    assert (len(first.flagged("FI").answers), first.flagged("DI").answers) == (2, [])
    assert first.share("FI", 1)
    assert second.flags().values.tolist() == [[200, "-", "-", 1, 5]]
    # Envoy writes a line some time after the response, and its workers don't wait for each other.
    assert {
        "method": "GET",
        "path": "/inventory/products?limit=1",
        "status": 200,
        "version": "v1",
        "tries": 1,
        "flag": "-",
        "meaning": "-",
    } in aborting_session.look.mesh.log(7).to_dict("records")


def test_a_body_is_sent(session: Session) -> None:
    """A POST with a body creates an order; an invalid one is counted and raises no error."""
    body: dict[str, Any] = {"customer_id": "ada", "destination": "rome", "items": [{"sku": "rooibos", "quantity": 1}]}
    assert session.shop.traffic(1, "/orders", method="POST", body=body).statuses == {201: 1}
    assert session.shop.traffic(2, "/orders", method="POST", body={}).statuses == {422: 2}


def test_a_method_that_no_request_can_have_is_rejected(session: Session) -> None:
    """A method other than a word is rejected before any request is sent, with a next step."""
    with pytest.raises(KitError, match="the method is not a word such as GET"):
        session.shop.traffic(1, method="é\n")


def test_the_table_lists_the_routes_and_retries_of_the_lab(session: Session) -> None:
    """The table lists the four routes of the lab, with Istio's own retries in short form."""
    routes = session.look.mesh.routes()
    assert routes.to.tolist() == ["inventory v1", "order v1", "payment v1", "shipping v1"]
    assert set(routes.policy) == {"timeout 10s; Istio's 2 retries"}


def test_counters_of_a_version_that_is_down_raise_an_error(session: Session) -> None:
    """Querying the counters of v2 while it is down raises an error with the command that starts it."""
    from labkit.errors import ShopUnavailable

    with pytest.raises(ShopUnavailable, match=r"(?s)order-v2 .*lab.start\('order-v2'\)"):
        session.look.metrics.value("order-v2", "events_total")


def test_a_chart_has_alt_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart's alt text states which version answered how often, with which status and how fast."""
    from labkit.views.drawing import charts

    alt_texts: list[str] = []
    monkeypatch.setattr(charts, "show", lambda figure, alt: alt_texts.append(alt))
    invented_traffic((200, "v1", 0.01), (200, "v1", 0.02), (504, "gateway", 1.5)).chart()
    assert alt_texts == [
        "A dot for each of 3 requests: 1 answers 504 from gateway, half of them within 1.5 seconds, the last in "
        "1.5 seconds; 2 answers 200 from v1, half of them within 20 milliseconds, the last in 20 milliseconds."
    ]


def test_a_share_outside_the_interval_states_the_measured_share() -> None:
    """Inside the interval the text is the same in each run; outside it states the measured share."""
    assert repr(Share("v2", 33, 300, 0.1)) == "v2: 10% of 300 requests: within the 99.99% interval"
    far = Share("v2", 100, 300, 0.1)
    assert not far
    assert repr(far).startswith("v2: 10% of 300 requests: no, it was 100 (33.3%); that speaks for 23.")
    assert invented_traffic((200, "v1", 0.1), (503, "gateway", 0.1)).share(503, 0.5)


def test_the_interval_is_exact() -> None:
    """At its bounds the tails equal the rest of the confidence; no hits and all hits reach 0 and 1."""
    low, high = interval(30, 300, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.0685, 0.1397)
    assert at_least(30, 300, low) == pytest.approx(0.025)
    assert at_most(30, 300, high) == pytest.approx(0.025)
    assert interval(0, 50)[0] == 0.0
    assert interval(50, 50)[1] == 1.0
    assert is_plausible(0, 50, 0)
    assert not is_plausible(1, 50, 0)


def test_fair_dice_are_accepted_and_biased_dice_are_rejected() -> None:
    """At 95%, at most about 5% of 500 fair dice are rejected; a die biased by half is nearly always rejected."""
    dice = random.Random(7)
    rolls = [sum(dice.random() < 0.3 for _ in range(400)) for _ in range(500)]
    assert sum(not is_plausible(hits, 400, 0.3, 0.95) for hits in rolls) <= 0.05 * 500 + 15
    assert all(is_plausible(hits, 400, 0.3) for hits in rolls)
    biased_rolls = [sum(dice.random() < 0.45 for _ in range(400)) for _ in range(100)]
    assert sum(not is_plausible(hits, 400, 0.3) for hits in biased_rolls) > 90


def test_a_share_of_no_requests_raises_an_error() -> None:
    """A share of no requests raises an error."""
    with pytest.raises(KitError, match="one request"):
        interval(0, 0)


def test_two_flags_have_both_meanings() -> None:
    """A line with two flags has both meanings; an unknown flag is shown as is."""
    assert meaning("URX,UT") == "all retries are used up; the service took too long"
    assert meaning("XYZ") == "XYZ"
