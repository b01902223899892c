"""The HTTP client of the downloads."""

from __future__ import annotations

import ssl

import httpx
import truststore

from labstack.errors import DownloadFailed

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds to connect, and to wait for the next bytes."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def download_client(url: str) -> httpx.Client:
    """Return a client that trusts this machine's certificates, because company networks often use their own.

    Parameters
    ----------
    url : str
        Address of the server. If it runs on this machine, the client bypasses the proxy.

    Raises
    ------
    DownloadFailed
        The proxy in the environment can't be used.
    """
    is_local = httpx.URL(url).host in LOCAL_HOSTS
    certificates = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.Client(trust_env=not is_local, verify=certificates, timeout=TIMEOUT, follow_redirects=True)
    except (ValueError, ImportError) as error:
        raise DownloadFailed(
            f"The proxy of this machine can't be used: {error}", next_step="correct HTTPS_PROXY or ALL_PROXY"
        ) from error
