"""HTTP requests to the lab's own components.

All of them listen on this machine, without TLS. So requests bypass any proxy of the learner's network, and skip loading
the CA certificates, which would take 30 ms per request.
"""

from __future__ import annotations

from typing import Any

import httpx


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
    with httpx.Client(timeout=timeout, trust_env=False, verify=False) as client:
        return client.request(method, url, **options)
