"""The certificate of the course: a page to print, for a learner who has solved its exercises."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from labkit.errors import KitError
from labkit.exercises import ON_CLUSTER
from labkit.exercises.hand_in import checked_target, page
from labkit.exercises.standing import Standing, notebook_title
from labkit.views.drawing.colours import SERVICES
from labstack.config.paths import write_atomically
from labstack.errors import one_of

STYLE = """
@page { size: A4 landscape; margin: 12mm; }
:root { color-scheme: light; }
body { font: 15px/1.45 Georgia, "Times New Roman", serif; color: #222; background: #fff; }
body { margin: 0 auto; max-width: 62em; padding: 1em; }
main { border: 2px solid #222; outline: 1px solid #222; outline-offset: -8px; padding: 2.2em 3em; text-align: center; }
h1 { font-size: 1.3em; letter-spacing: 0.3em; text-transform: uppercase; font-weight: normal; margin: 0.8em 0; }
.who { font-size: 2.6em; margin: 0.2em 0; }
ul { columns: 3; list-style: none; padding: 0; margin: 1.2em 0; font-size: 0.9em; text-align: left; }
small { color: #444; }
"""
SAID = (
    "has followed orders through a running saga of four services, broken it, and repaired it: outbox and change data "
    "capture, compensations, duplicates and idempotency, dead letters, routing and resilience, metrics and traces."
)

SAID_OF_SOME = "has solved every exercise of these parts of the course, on a running saga of four services."


class Certificate:
    """A certificate, or what is missing for it.

    Parameters
    ----------
    standing : Standing
        How far the learner has come.
    who : str
        The learner's name.
    path : str or Path
        Where the page is written, once it is earned.
    notebooks : sequence of str
        The notebooks whose exercises must be solved; empty for all that need no cluster.

    Raises
    ------
    KitError
        The path does not name an HTML file in an existing folder, or a notebook does not exist.
    """

    def __init__(self, standing: Standing, who: str, path: str | Path, notebooks: Sequence[str] = ()) -> None:
        known = standing.by_notebook()
        for number in notebooks:
            if number not in known:
                raise KitError(f"There is no notebook {number!r}.", next_step=one_of(number, known))
        self.path = checked_target(path, ".html")
        self.who = who.strip()
        whole = [number for number in known if number not in ON_CLUSTER]
        chosen = [number for number in known if number in (notebooks or whole)]
        self.standing = Standing(tuple(item for item in standing if item.notebook in chosen))
        self.missing = [item for item in self.standing.exercises if not item.done]
        """The exercises that are still open."""
        if self.earned and self.who:
            write_atomically(self.path, self._page(SAID if set(chosen) >= set(whole) else SAID_OF_SOME))

    @property
    def earned(self) -> bool:
        """Whether every exercise is solved."""
        return not self.missing

    def __repr__(self) -> str:
        if self.earned and not self.who:
            return 'All exercises are solved. Your name is missing: tasks.certificate("Your Name")'
        if self.earned:
            return f"The certificate for {self.who} is in {self.path}. Open it in a browser to print it."
        lines = [f"Not yet: {self.standing.exercises.done} of {self.standing.exercises.total} exercises are solved."]
        for number, here in Standing(tuple(self.missing)).by_notebook().items():
            lines.append(f"  {notebook_title(number)}: {', '.join(item.name for item in here)}")
        return "\n".join([*lines, "The certificate is written when all of them are solved."])

    def _repr_html_(self) -> str:
        if self.earned and self.who:
            name = html.escape(self.path.as_posix())
            return f'<p>🖶 {html.escape(repr(self))} <a href="{name}" target="_blank">{name}</a></p>'
        return f"<pre>{html.escape(repr(self))}</pre>"

    def _page(self, said: str) -> str:
        last = max(item.at for item in self.standing.exercises)
        on = datetime.fromisoformat(last) if last else datetime.now()
        guesses = self.standing.predictions
        came_true = sum(item.state == "as predicted" for item in guesses)
        predicted = f" {guesses.done} predictions made, {came_true} came true." if guesses.done else ""
        counts = "".join(
            f"<li>{html.escape(notebook_title(number))}: {here.exercises.total}</li>"
            for number, here in self.standing.by_notebook().items()
        )
        body = (
            f"<main>{_lanes()}<h1>Certificate</h1><p>Saga Lab, a course on event-driven systems</p>"
            f'<p class="who">{html.escape(self.who)}</p><p>{said}</p>'
            f"<p><b>{self.standing.exercises.total} exercises solved.</b>{predicted}</p>"
            f"<ul>{counts}</ul><p>{on:%d %B %Y}</p>"
            "<p><small>The exercises were checked on the learner's machine, by the state of the running system.</small>"
            "</p></main>"
        )
        return page(f"Saga Lab: certificate for {self.who}", body, STYLE)


def _lanes() -> str:
    """Return a drawing of four lanes, one for each service, that an order crosses."""
    lanes = "".join(
        f'<line x1="0" x2="400" y1="{10 + 14 * row}" y2="{10 + 14 * row}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{80 + 80 * row}" cy="{10 + 14 * row}" r="6" fill="{colour}"/>'
        for row, colour in enumerate(SERVICES.values())
    )
    path = '<polyline points="80,10 160,24 240,38 320,52" fill="none" stroke="#222" stroke-width="1.5"/>'
    label = 'role="img" aria-label="An order crosses four services"'
    return f'<svg viewBox="0 0 400 62" width="400" {label}>{lanes}{path}</svg>'
