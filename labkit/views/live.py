"""What every live view does alike: it listens while a page shows it, and tells the page in batches.

The page says now and then that it is there, and says so when a view is taken out of it. A view that no page shows any
more stops listening: its cell was deleted or run again, the tab was closed, the laptop went to sleep. When the page
comes back, it listens again.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.views.feed import Feed, Seen, States

BATCH_EVERY = 0.1
"""Seconds between two messages to the page, at least."""

PULSE_EVERY = 2.0
"""Seconds after which the page is told that all is well, where nothing happens."""

UNSEEN_FOR = 150.0
"""Seconds without a word from a page. A browser may let a hidden tab speak only once a minute."""

PAGE = Path(__file__).parent / "page"


def script(name: str) -> str:
    """Return the script of a view's part in the page, behind what all of them have in common."""
    return "".join((PAGE / file).read_text(encoding="utf-8") for file in ("live.js", name))


class Page(anywidget.AnyWidget):
    """A view's part in the page.

    Attributes
    ----------
    state : dict
        Everything that a page has to know which shows the view only now.
    """

    _css = PAGE / "views.css"
    state = traitlets.Dict().tag(sync=True)


class LiveView(ABC):
    """A view that goes on until it is stopped, or no page shows it.

    Parameters
    ----------
    feed : Feed
        What happens.
    """

    page_class: type[Page]
    """Its part in the page."""

    pulse = PULSE_EVERY

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._lock = threading.RLock()
        self._page: Page | None = None
        self._pages: set[str] = set()
        self._spoken = time.monotonic()
        self._stopped = threading.Event()
        self._news = threading.Event()
        self._sender: threading.Thread | None = None
        self._begin()

    # -- for whoever looks -----------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether it listens."""
        return not self._stopped.is_set()

    def stop(self) -> None:
        """Listen no longer. What was seen stays; twice is fine."""
        self._stopped.set()
        self._news.set()
        self._feed.leave(self._hear)
        if self._sender and self._sender is not threading.current_thread():
            self._sender.join(5)

    @abstractmethod
    def text(self) -> str:
        """Say in words what it shows."""

    # -- what a view is made of ------------------------------------------------------------------------------------

    @abstractmethod
    def take(self, seen: list[Seen], states: States | None) -> None:
        """Take in what is new; called under the view's lock."""

    @abstractmethod
    def batch(self) -> dict[str, Any] | None:
        """Return what the page has to be told since the last time, and forget it; called under the view's lock."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """Return everything that a page needs which shows the view only now; called under the view's lock."""

    # -- listening and telling -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._stopped.clear()
        self._spoken = time.monotonic()
        self._feed.listen(self._hear)
        self._sender = threading.Thread(target=self._tell, name="labkit-view", daemon=True)
        self._sender.start()

    def _hear(self, seen: list[Seen], states: States | None) -> None:
        with self._lock:
            self.take(seen, states)
        self._news.set()

    def _tell(self) -> None:
        while self.live:
            self._news.wait(self.pulse)
            self._news.clear()
            if self._page is not None:
                with self._lock:
                    batch = self.batch()
                trouble = sorted(self._feed.trouble.values())
                self._page.send({"kind": "batch", "trouble": trouble, **(batch or {})})
            if time.monotonic() - self._spoken > UNSEEN_FOR:
                self._pages.clear()  # a page that comes back is a new one
                self.stop()
            self._stopped.wait(BATCH_EVERY)
        if self._page is not None:
            self._page.send({"kind": "over"})

    def _from_page(self, _: Any, message: dict[str, Any], __: Any) -> None:
        """Hear what the page says: it shows the view, or does so no longer."""
        who = str(message.get("view", ""))
        if message.get("kind") == "gone":
            self._pages.discard(who)
            if not self._pages:
                self.stop()
            return
        self._spoken = time.monotonic()
        if who not in self._pages:
            self._pages.add(who)
            if not self.live:
                self._begin()
            with self._lock:
                whole = self.whole()
            if self._page is not None:
                self._page.send({"kind": "whole", "view": who, **whole})

    def widget(self) -> Page:
        """Return its part in the page, to be put beside others."""
        if self._page is None:
            with self._lock:
                made = self.page_class(state=self.whole())
            made.on_msg(self._from_page)
            self._page = made
        return self._page

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return bundle(self.widget(), repr(self))


def bundle(widget: Any, words: str) -> dict[str, Any]:
    """Return what a cell shows for a widget, with words that stay the same from run to run as its text."""
    shown = widget._repr_mimebundle_()
    # anywidget gives data, or data and metadata.
    data = shown[0] if isinstance(shown, tuple) else shown
    return {**data, "text/plain": words}
