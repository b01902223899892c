"""HTTP requests to the lab's own components.

All of them listen on this machine, without TLS. So the clients ignore the environment's proxies and certificates, and
share one empty TLS context. Loading the CA certificates would take 30 to 50 ms per client.
"""

from __future__ import annotations

import os
import ssl
from importlib.util import find_spec
from typing import Any

import httpx

WITHOUT_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""An empty TLS context for all clients. It trusts no certificate, because no component uses TLS."""


def get(url: str, *, timeout: float = 5, **options: Any) -> httpx.Response:
    """Send a GET request; see `httpx.request` for the options and errors."""
    return request("GET", url, timeout=timeout, **options)


def answers(url: str) -> bool:
    """Report whether a GET of `url` returns 200 within two seconds."""
    try:
        return get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def request(method: str, url: str, *, timeout: float = 5, **options: Any) -> httpx.Response:
    """Send a request over a new connection; see `httpx.request` for the options and errors."""
    with client(timeout=timeout) as one:
        return one.request(method, url, **options)


def client(base_url: str = "", *, timeout: float = 5, **options: Any) -> httpx.Client:
    """Return a client that keeps its connections; see `httpx.Client` for the options."""
    return httpx.Client(base_url=base_url, timeout=timeout, trust_env=False, verify=WITHOUT_CERTIFICATES, **options)


LOOPBACK = "127.0.0.1,localhost,::1"


def exempt_loopback() -> None:
    """Exempt this machine from the proxies of this process's environment, for requests that learners send themselves.

    Downloads still use the proxies. If the package socksio is missing, a SOCKS proxy is removed from the environment,
    because with one no `httpx.Client` can then be created, not even for an exempt host.
    """
    for name, value in list(os.environ.items()):
        if name.lower().endswith("_proxy") and value.startswith("socks") and not find_spec("socksio"):
            del os.environ[name]
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    exempt = before if LOOPBACK in before else f"{before},{LOOPBACK}".lstrip(",")
    os.environ.update(no_proxy=exempt, NO_PROXY=exempt)
