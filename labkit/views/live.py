"""The common base of the live views: a view listens while a page shows it, and sends the page updates in batches.

The page sends a heartbeat, and a message when a view is removed from it. A view that no page shows any more stops
listening: its cell was deleted or run again, the tab was closed, or the laptop went to sleep. When the page comes back,
the view listens again.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self
from uuid import uuid4

import anywidget
import traitlets
from sidecar import Sidecar

from labkit.views.feed import Feed, Observation, States

BATCH_INTERVAL = 0.1
"""The minimum interval between two messages to the page, in seconds."""

PULSE_INTERVAL = 2.0
"""Seconds after which the page gets a message even if nothing happens."""

HEARTBEAT_TIMEOUT = 150.0
"""The timeout for a page's heartbeat, in seconds. A browser may let a hidden tab send only once a minute."""

PAGE = Path(__file__).parent / "page"


def script(name: str) -> str:
    """Return the script of a view's widget, after the code that all views share."""
    return "".join((PAGE / file).read_text(encoding="utf-8") for file in ("live.js", name))


class Page(anywidget.AnyWidget):
    """The widget of a view.

    Attributes
    ----------
    state : dict
        The complete state, for a page that starts to show the view. The page keeps its copy up to date, so that a
        notebook which is saved with the widgets' state shows the last picture without a kernel.
    key : str
        Identifies the view in a page that shows it more than once.
    """

    _css = PAGE / "views.css"
    state = traitlets.Dict().tag(sync=True)
    key = traitlets.Unicode().tag(sync=True)


class DrawnPage(Page):
    """The widget of a view whose messages contain its picture, as ``html``."""

    _esm = script("drawn.js")


class Receiver(Protocol):
    """Sends messages to the pages that show a view."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to every page."""


class LiveView(ABC):
    """A view that stays live until it is stopped or no page shows it.

    Parameters
    ----------
    feed : Feed
        The source of observations.
    page : object, optional
        Receives the messages for the page in its method `send`; the default is a widget.
    """

    page_class: type[Page]
    """The class of the view's widget."""

    title: str
    """The title of the view's panel."""

    anchor = "split-bottom"
    """The side of the notebook on which JupyterLab opens the view's panel."""

    stopped_note = "This view has stopped, and shows nothing that happened since. Run its cell again to continue."
    """The note below the words of a view that does not listen any more; empty for a view of a fixed duration."""

    pulse = PULSE_INTERVAL
    _panel: ClassVar[tuple[LiveView, Sidecar] | None] = None

    def __init__(self, feed: Feed, page: Receiver | None = None) -> None:
        self._feed = feed
        self._lock = threading.RLock()
        self._page = page
        self._pages: set[str] = set()
        self._last_heartbeat = time.monotonic()
        self._stopped = threading.Event()
        self._updated = threading.Event()
        self._sender: threading.Thread | None = None
        self._start()

    # -- public interface ------------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether the view listens."""
        return not self._stopped.is_set()

    def stop(self) -> None:
        """Stop listening. The observations so far remain. Stopping twice is harmless."""
        self._stopped.set()
        self._updated.set()
        self._feed.unsubscribe(self._receive)
        if self._sender and self._sender is not threading.current_thread():
            self._sender.join(5)

    def text(self) -> str:
        """Return the view's content in words, with a note if the view does not listen any more."""
        return "\n\n".join(filter(None, (self.words(), "" if self.live else self.stopped_note)))

    # -- implemented by each view ----------------------------------------------------------------------------------

    @abstractmethod
    def words(self) -> str:
        """Return the view's content in words."""

    @abstractmethod
    def apply(self, observations: list[Observation], states: States | None) -> None:
        """Apply new observations; called under the view's lock."""

    @abstractmethod
    def batch(self) -> dict[str, Any] | None:
        """Return the changes for the page since the last call, and clear them; called under the view's lock."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Return the complete state for a page that starts to show the view; called under the view's lock."""

    # -- listening and sending -------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._stopped.clear()
        self._last_heartbeat = time.monotonic()
        self._feed.subscribe(self._receive)
        self._sender = threading.Thread(target=self._send_updates, name="labkit-view", daemon=True)
        self._sender.start()

    def _receive(self, observations: list[Observation], states: States | None) -> None:
        with self._lock:
            self.apply(observations, states)
        self._updated.set()

    def _send_updates(self) -> None:
        while self.live:
            self._updated.wait(self.pulse)
            self._updated.clear()
            if self._page is not None:
                with self._lock:
                    batch = self.batch()
                errors = sorted(self._feed.errors.values())
                self._page.send({"kind": "batch", "trouble": errors, **(batch or {})})
            if time.monotonic() - self._last_heartbeat > HEARTBEAT_TIMEOUT:
                self._pages.clear()  # a page that comes back is a new one
                self.stop()
            self._stopped.wait(BATCH_INTERVAL)
        if self._page is not None:
            self._page.send({"kind": "over"})

    def state(self) -> dict[str, Any]:
        """Return the complete state for a page that starts to show the view."""
        with self._lock:
            return self.snapshot()

    def handle_message(self, message: dict[str, Any]) -> None:
        """Handle a message of a page: it shows the view, or no longer does."""
        who = str(message.get("view", ""))
        if message.get("kind") == "beside":
            self.beside()
            return
        if message.get("kind") == "gone":
            self._pages.discard(who)
            if message.get("panel") and self._is_beside():
                LiveView._close_panel()  # so that a saved notebook does not open it again
            if not self._pages:
                self.stop()
            return
        self._last_heartbeat = time.monotonic()
        if who not in self._pages:
            self._pages.add(who)
            if not self.live:
                self._start()
            if self._page is not None:
                self._page.send({"kind": "whole", "view": who, **self.state()})
                if not self.live:
                    self._page.send({"kind": "over"})

    def widget(self) -> Page:
        """Return the view's widget, to be placed beside others."""
        if not isinstance(self._page, Page):
            self._page = self.page_class(state=self.state(), key=uuid4().hex)
            self._page.on_msg(lambda widget, message, buffers: self.handle_message(message))
        return self._page

    def beside(self) -> Self:
        """Show the view in a panel of JupyterLab beside the notebook, so that it does not scroll away.

        There is one such panel; a view that is shown in it replaces the previous one. Other front ends ignore the
        panel, and show the view below its cell.
        """
        if not self._is_beside():
            LiveView._close_panel()
            shown = {"output_type": "display_data", "data": self._repr_mimebundle_(), "metadata": {}}
            LiveView._panel = self, Sidecar(title=self.title, anchor=self.anchor, outputs=(shown,))
        return self

    def _is_beside(self) -> bool:
        return LiveView._panel is not None and LiveView._panel[0] is self

    @staticmethod
    def _close_panel() -> None:
        if LiveView._panel is not None:
            LiveView._panel[1].close()
        LiveView._panel = None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return bundle(self.widget(), repr(self))


def bundle(widget: Any, text: str) -> dict[str, Any]:
    """Return a widget's MIME bundle for a cell, with a text that stays the same between runs."""
    shown = widget._repr_mimebundle_()
    # anywidget returns data, or data and metadata.
    data = shown[0] if isinstance(shown, tuple) else shown
    return {**data, "text/plain": text}
