"""The clients of Prometheus, Alertmanager and Jaeger report a component that is missing or down in the same way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from labkit.errors import KitError
from labkit.sources.alertmanager import AlertmanagerClient, NoAlertmanager
from labkit.sources.prometheus import NoPrometheus, PrometheusClient
from labkit.sources.traces import JaegerSource, NoTraces

READS: dict[str, tuple[type[KitError], Callable[[str], object]]] = {
    "Prometheus": (NoPrometheus, lambda url: PrometheusClient(url).query("up")),
    "Alertmanager": (NoAlertmanager, lambda url: AlertmanagerClient(url).alerts()),
    "Jaeger": (NoTraces, lambda url: JaegerSource(url).trace("0" * 32)),
}
"""A read of each component: the error if it is unavailable, and the call."""


class FailingHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing_server() -> Iterator[str]:
    """Yield the URL of a server that answers each request with the status 500."""
    with HTTPServer(("127.0.0.1", 0), FailingHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("component", READS)
def test_missing_component_names_its_installation(component: str) -> None:
    """In a lab without the component, the error names the command that installs it."""
    unavailable, read = READS[component]
    with pytest.raises(unavailable, match=f"This lab has no {component}(.|\n)*lab install {component.lower()}"):
        read("")


@pytest.mark.parametrize("component", READS)
def test_stopped_component_names_its_start(component: str) -> None:
    """If no program listens at the address, the error names the call that starts the component."""
    unavailable, read = READS[component]
    with pytest.raises(unavailable, match=rf"{component} doesn't answer(.|\n)*lab\.start\('{component.lower()}'\)"):
        read("http://127.0.0.1:9")


@pytest.mark.parametrize("component", ["Alertmanager", "Jaeger"])
def test_server_error_counts_as_no_answer(component: str, failing_server: str) -> None:
    """An answer with a server error raises the same error as no answer."""
    unavailable, read = READS[component]
    with pytest.raises(unavailable, match=f"{component} doesn't answer .HTTPStatusError"):
        read(failing_server)
