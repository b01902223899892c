"""The base class of the clients that read a component's HTTP API."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx

from labkit.errors import KitError
from labstack.clients import http

TIMEOUT = 5.0
"""The timeout for an answer, in seconds."""


class HttpSource:
    """Reads the HTTP API of one component that a lab may lack.

    Parameters
    ----------
    url : str
        Its base URL; empty if the lab has no such component.
    """

    component: ClassVar[str]
    """The component's display name; in lowercase, its name in the lab."""
    unavailable: ClassVar[type[KitError]]
    """The error that is raised if the lab does not have the component, or it does not answer."""
    installation: ClassVar[str]
    """The next step if the lab does not have the component."""
    meanwhile: ClassVar[str]
    """What still works while the component is down, for the message."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; see `httpx.request` for the options.

        Raises
        ------
        KitError
            The lab does not have the component, or it does not answer: an error of the type `unavailable`.
        """
        if not self.url:
            raise self.unavailable(f"This lab has no {self.component}.", next_step=self.installation)
        try:
            return http.request(method, self.url + path, timeout=TIMEOUT, **options)
        except httpx.HTTPError as error:
            raise self._does_not_answer(error) from None

    def _json(self, answer: httpx.Response) -> Any:
        """Return the JSON of an answer; a status of 400 or more, or an answer without JSON, counts as no answer."""
        try:
            return answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._does_not_answer(error) from None

    def _does_not_answer(self, error: Exception) -> KitError:
        return self.unavailable(
            f"{self.component} doesn't answer ({type(error).__name__}).",
            next_step=f"`lab` shows how it is, `lab.start({self.component.lower()!r})` starts it; {self.meanwhile}",
        )
