"""The HTTP client of the downloads."""

from __future__ import annotations

import ssl

import httpx
import truststore

from labstack.errors import DownloadFailed

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds to connect, and to wait for the next bytes."""


def download_client(*, local: bool) -> httpx.Client:
    """Return a client that trusts this machine's certificates, because company networks often use their own.

    Parameters
    ----------
    local : bool
        Whether the server runs on this machine; the client then bypasses the proxy.

    Raises
    ------
    DownloadFailed
        The proxy in the environment can't be used.
    """
    certificates = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.Client(trust_env=not local, verify=certificates, timeout=TIMEOUT, follow_redirects=True)
    except (ValueError, ImportError) as error:
        raise DownloadFailed(
            f"The proxy of this machine can't be used: {error}", next_step="correct HTTPS_PROXY or ALL_PROXY"
        ) from error
