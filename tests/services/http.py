"""A service's HTTP API, served by uvicorn in a thread, with a client."""

import socket
import threading

import httpx
import uvicorn
from fastapi import FastAPI

from labservices.http.protocol import LimitedProtocol


class AppServer:
    """An app under uvicorn on a free port of 127.0.0.1."""

    def __init__(self, app: FastAPI) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        config = uvicorn.Config(app, http=LimitedProtocol, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def close(self) -> None:
        """Stop the server, and wait for its thread."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
