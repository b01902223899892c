"""The progress of every learner of a JupyterHub, as their notebooks report it: a service that the hub runs.

    python progress.py FOLDER        what the hub runs; FOLDER keeps the newest hand-in of each learner

A learner's notebooks send the hand-in, the object that ``tasks.report("ada.json")`` writes, after each change. An admin
of the hub sees all learners, and a learner sees only the own hand-in. The hub authenticates every request. The service
needs only what the image of the hub contains: JupyterHub and Tornado.
"""

from __future__ import annotations

import html
import io
import json
import os
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.log import enable_pretty_logging
from tornado.web import Application, HTTPError, RequestHandler, authenticated

FORMAT = "saga-lab-hand-in/1"
LARGEST = 2 * 1024**2
"""The largest hand-in in bytes. An answer has at most 8,000 characters."""
MOST_ITEMS = 500
"""The largest number of items of a hand-in. The course has about 200."""
NOTEBOOK = re.compile(r"[\w-]{1,12}")
"""The number of a notebook, such as `03` or `build-1`."""
TEXTS = ("notebook", "kind", "name", "title", "state", "answer", "outcome", "at")
NUMBERS = ("attempts", "hints")
COUNTED = ("exercise", "step")
"""The kinds of items that count as exercises."""
INSTRUCTORS = "admin-ui"
"""The scope that all admins of the hub have, and learners don't."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em; }
:root { color-scheme: light dark; }
table { border-collapse: collapse; margin-bottom: 2em; }
th, td { text-align: left; vertical-align: top; padding: 0.3em 0.8em 0.3em 0; border-top: 1px solid #8888; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 60em; }
"""

HandIn = dict[str, Any]


def checked(body: bytes, who: str, received_at: datetime) -> HandIn:
    """Return the hand-in of a request's body, with the learner's name at the hub and the time of its arrival.

    Raises
    ------
    ValueError
        The body is not a hand-in; the message names the reason.
    """
    try:
        content = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    json.dumps(content, ensure_ascii=False).encode()  # a surrogate without its pair is a ValueError
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"the format is not {FORMAT}")
    items = content.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("items is not a list of objects")
    if len(items) > MOST_ITEMS:
        raise ValueError(f"there are more than {MOST_ITEMS} items")
    for item in items:
        wrong = [name for name in TEXTS if not isinstance(item.get(name), str)]
        wrong += [name for name in NUMBERS if type(item.get(name)) is not int]
        if wrong:
            raise ValueError(f"an item has no valid {wrong[0]}")
        if not NOTEBOOK.fullmatch(item["notebook"]):
            raise ValueError("an item has no valid notebook")
    return {**content, "who": who, "written_at": received_at.isoformat(timespec="seconds")}


@dataclass(frozen=True)
class Store:
    """The newest hand-in of each learner, in a folder that `labkit.exercises.hand_ins` can read."""

    folder: Path

    def save(self, hand_in: HandIn) -> None:
        """Replace the learner's hand-in; a reader sees either the old one or the new one."""
        path = self._path(hand_in["who"])
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(hand_in, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, path)

    def of(self, who: str) -> HandIn | None:
        """Return the hand-in of a learner, or None."""
        try:
            found: HandIn = json.loads(self._path(who).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def all(self) -> list[HandIn]:
        """Return all hand-ins, by the learners' names."""
        found = [self.of(unquote(path.stem)) for path in sorted(self.folder.glob("*.json"))]
        return [one for one in found if one]

    def _path(self, who: str) -> Path:
        return self.folder / f"{quote(who, safe='')}.json"


def overview(hand_ins: Iterable[HandIn], now: datetime) -> str:
    """Return the page with a row for each learner, and the exercises that the fewest learners solved."""
    rows, tried, solved = [], Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    hand_ins = list(hand_ins)
    notebooks = dict.fromkeys(i["notebook"] for one in hand_ins for i in exercises(one) if i["state"] != "open")
    for one in hand_ins:
        counted = exercises(one)
        for item in counted:
            key = item["notebook"], item["name"]
            tried[key] += item["state"] != "open"
            solved[key] += item["state"] == "solved"
        here = [count([i for i in counted if i["notebook"] == number]) for number in notebooks]
        link = f'<a href="learners/{quote(one["who"], safe="")}">{html.escape(one["who"])}</a>'
        rows.append([link, count(counted), *here, *map(html.escape, (last_change(one), ago(one["written_at"], now)))])
    head = ["learner", "solved", *map(html.escape, notebooks), "last change", "reported"]
    hard = sorted((key for key in tried if tried[key] > solved[key]), key=lambda key: solved[key] - tried[key])[:10]
    hardest = [
        [html.escape(number), html.escape(name), tried[number, name], solved[number, name]] for number, name in hard
    ]
    body = table(head, rows)
    if hard:
        body += "<h2>Tried, but not solved</h2>" + table(["notebook", "exercise", "tried", "solved"], hardest)
    body += '<p><a href="hand-ins.zip">Download all hand-ins</a></p>'
    return page(f"Progress of {len(rows)} learners", body)


def details(hand_in: HandIn, *, link: bool) -> str:
    """Return the page with everything that a learner has tried or predicted, and optionally a link to all learners."""
    fields = ("notebook", "kind", "name", "state", "attempts", "hints")
    rows = [
        [
            *(html.escape(str(item[name])) for name in fields),
            f"<pre>{html.escape(item['answer'])}</pre>",
            html.escape(item["outcome"]),
        ]
        for item in hand_in["items"]
        if item["state"] != "open"
    ]
    head = ["notebook", "kind", "name", "state", "attempts", "hints", "answer", "outcome"]
    body = table(head, rows) if rows else "<p>No exercise has been tried yet.</p>"
    return page(f"Progress of {hand_in['who']}", body + ('<p><a href="../">All learners</a></p>' if link else ""))


def exercises(hand_in: HandIn) -> list[Mapping[str, Any]]:
    """Return the items that count as exercises."""
    return [item for item in hand_in["items"] if item["kind"] in COUNTED]


def count(items: Iterable[Mapping[str, Any]]) -> str:
    """Return how many exercises are solved, such as ``3/5``."""
    states = [item["state"] for item in items]
    return f"{states.count('solved')}/{len(states)}"


def last_change(hand_in: HandIn) -> str:
    """Return the item that the learner changed last, such as ``02 leave-the-row-out: tried, 4 attempts``."""
    last = max(reversed(hand_in["items"]), key=lambda item: item["at"], default=None)
    if last is None or not last["at"]:
        return ""
    return f"{last['notebook']} {last['name']}: {last['state']}, {last['attempts']} attempts"


def ago(written_at: str, now: datetime) -> str:
    """Return how long ago a time was, in minutes or hours."""
    minutes = int((now - datetime.fromisoformat(written_at)).total_seconds() // 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table of cells that are HTML already."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{body}</table>"


def page(title: str, body: str) -> str:
    """Return a page that reloads itself twice in a minute."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="30">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


class Handler(HubOAuthenticated, RequestHandler):
    """A page for a user whom the hub has authenticated."""

    def initialize(self, store: Store) -> None:
        """Receive the store from the application."""
        self.store = store

    @property
    def is_instructor(self) -> bool:
        """Whether the user is an admin of the hub."""
        return INSTRUCTORS in self.current_user["scopes"]

    def require_instructor(self) -> None:
        """Refuse a learner with status 403."""
        if not self.is_instructor:
            raise HTTPError(403, reason="Only an admin of the hub may see this page")


class Overview(Handler):
    """All learners for an instructor; for a learner, only the own hand-in."""

    @authenticated
    def get(self) -> None:
        """Return the page."""
        if self.is_instructor:
            self.finish(overview(self.store.all(), datetime.now(UTC)))
        else:
            self.redirect(f"learners/{quote(self.current_user['name'], safe='')}")


class Learner(Handler):
    """One learner's hand-in, for an instructor and for this learner."""

    @authenticated
    def get(self, who: str) -> None:
        """Return the page."""
        if who != self.current_user["name"]:
            self.require_instructor()
        self.finish(details(self.store.of(who) or {"who": who, "items": []}, link=self.is_instructor))


class Download(Handler):
    """All hand-ins as an archive, for an instructor."""

    @authenticated
    def get(self) -> None:
        """Return the archive."""
        self.require_instructor()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in self.store.all():
                archive.writestr(f"hand-ins/{quote(one['who'], safe='')}.json", json.dumps(one, ensure_ascii=False))
        self.set_header("Content-Type", "application/zip")
        self.finish(content.getvalue())


class Receiver(Handler):
    """Accepts a learner's hand-in, with the token of the learner's server."""

    def check_xsrf_cookie(self) -> None:
        """Accept a request without the cookie, because `post` requires a token in a header."""

    @authenticated
    def post(self) -> None:
        """Store the hand-in under the learner's name at the hub."""
        if "Authorization" not in self.request.headers:  # a foreign page can send a cookie, but not this header
            raise HTTPError(403, reason="A hand-in needs a token in the header Authorization")
        try:
            hand_in = checked(self.request.body, self.current_user["name"], datetime.now(UTC))
        except ValueError as error:
            self.set_status(400)
            self.finish({"message": f"This is not a hand-in: {error}."})
            return
        self.store.save(hand_in)
        self.set_status(204)


def application(prefix: str, store: Store, cookie_secret: bytes) -> Application:
    """Return the service's pages below the prefix that the hub has given to it."""
    given = {"store": store}
    return Application(
        [
            (prefix, Overview, given),
            (f"{prefix}learners/([^/]+)", Learner, given),
            (f"{prefix}hand-ins.zip", Download, given),
            (f"{prefix}hand-in", Receiver, given),
            (f"{prefix}oauth_callback", HubOAuthCallbackHandler),
        ],
        cookie_secret=cookie_secret,
    )


def main(folder: Path) -> None:
    """Serve until the hub stops the process."""
    enable_pretty_logging()
    folder.mkdir(parents=True, exist_ok=True)
    prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    server = HTTPServer(application(prefix, Store(folder), os.urandom(32)), max_buffer_size=LARGEST)
    # On a cluster, the name in the address belongs to the hub's Service, and the container has another address.
    server.listen(address.port or 80, "127.0.0.1" if address.hostname in ("127.0.0.1", "localhost") else "")
    with suppress(KeyboardInterrupt):  # the hub stops its services with SIGINT first
        IOLoop.current().start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
