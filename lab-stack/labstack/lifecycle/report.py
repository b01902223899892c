"""Views for people: the lab's state as text and HTML, and the stages of a start as they happen."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from labstack.backends import connect_watcher
from labstack.backends.base import ComponentState
from labstack.config.settings import written
from labstack.gateway.choice import NAMES
from labstack.lifecycle.status import LabStatus
from labstack.progress import Progress, Stage

# Okabe and Ito's palette, which colour-blind readers can distinguish. Each state also has its own sign.
SIGNS = {"running": "●", "paused": "‖", "stopped": "○", "failed": "✗"}
COLOURS = {"running": "#009E73", "paused": "#E69F00", "stopped": "#888888", "failed": "#D55E00"}
STATE_COLOURS = {"ready": "#009E73", "starting": "#0072B2", "degraded": "#D55E00", "stopped": "#888888"}


def status_text(status: LabStatus) -> str:
    """Return the lab's state as plain text."""
    rows = status_rows(status)
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"Lab: {status.state} ({status.mode} mode)"]
    for row in rows:
        lines.append(f"  {SIGNS[row.state]} {row.name:<{width}}  {row.state:<8} {row.memory:>7}  {row.note}".rstrip())
    if "lab" in status.complaints:
        lines.append(status.complaints["lab"])
    if status.left_out:
        lines.append(left_out_text(status))
    if status.rss_bytes:
        lines.append(f"    {'total':<{width}}  {'':<8} {status.rss_bytes / 1e6:4.0f} MB")
    if status.state != "stopped":
        lines += status.absent.lines()
    if status.state == "stopped":
        lines.append("Start it with lab.up() in Python, or `lab up` in a shell.")
    return "\n".join(lines)


def left_out_text(status: LabStatus) -> str:
    """Return a sentence about the figures that a status leaves out."""
    return f"The machine is slow, so the status leaves out: {', '.join(status.left_out)}."


@dataclass(frozen=True)
class ComponentRow:
    """One component, as all tables show it."""

    name: str
    state: ComponentState
    memory: str
    note: str


def status_rows(status: LabStatus) -> list[ComponentRow]:
    """Return one row for each component; the note contains its address or its problem."""
    where = status.endpoints
    addresses: dict[str, str] = {}
    if status.state != "stopped" and where.kafka:
        databases = {f"{service}-db": url.rsplit("@", 1)[-1] for service, url in where.databases.items()}
        addresses = {**where.services, **databases, "kafka": where.kafka, "connect": where.connect}
        addresses[connect_watcher.NAME] = where.watcher
        addresses |= {"istiod": where.istiod, "envoy": where.gateway, **where.versions, **where.observers}
    rows = []
    for name, component in status.components.items():
        memory = f"{component.rss_bytes / 1e6:.0f} MB" if component.rss_bytes else ""
        complaint = status.complaints.get(name, "")
        note = complaint if complaint and complaint != component.state else addresses.get(name, "")
        if name == "envoy" and name not in status.complaints:
            note += f" (configured by {NAMES[status.control_plane]})"
        if on := status.switches.get(name):
            note += f" (fault switches: {', '.join(written(switch, value) for switch, value in on.items())})"
        if pods := component.pods:
            note += f" (pod {pods[0]}{f' and {len(pods) - 1} more' if len(pods) > 1 else ''})"
        if kept := status.retained.get(name):
            note += f" (retains {kept / 1e6:.1f} MB of write-ahead log for Debezium)"
        rows.append(ComponentRow(name, component.state, memory, note))
    return rows


def status_html(status: LabStatus) -> str:
    """Return the lab's state as HTML that is legible in light and dark themes."""
    rows = []
    for row in status_rows(status):
        sign = f'<span style="color:{COLOURS[row.state]}" aria-hidden="true">{SIGNS[row.state]}</span>'
        cells = (f"{sign} {html.escape(row.name)}", row.state, row.memory, html.escape(row.note))
        rows.append("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>")
    colour = STATE_COLOURS[status.state]
    absent = [] if status.state == "stopped" else status.absent.lines()
    if status.left_out:
        absent = [left_out_text(status), *absent]
    later = "".join(f"<div>{html.escape(line)}</div>" for line in absent)
    total = f", {status.rss_bytes / 1e6:.0f} MB in total" if status.rss_bytes else ""
    advice = "<p>Start it with <code>lab.up()</code>.</p>" if status.state == "stopped" else ""
    if complaint := status.complaints.get("lab"):
        advice = f"<p>{html.escape(complaint)}</p>"
    return (
        f'<div><p><b>Lab</b>: <b style="color:{colour}">{status.state}</b> ({status.mode} mode{total})</p>'
        "<table><thead><tr><th>component</th><th>state</th><th>memory</th><th>address or problem</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{later}{advice}</div>"
    )


def stages_html(progress: Progress) -> str:
    """Return the stages of a start as HTML: one bar per stage, on a common time axis."""
    total = max(progress.seconds, 0.1)
    rows = "".join(_stage_row(stage, total) for stage in progress.stages)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in progress.notes)
    return f'<div>{notes}<table style="width:100%"><tbody>{rows}</tbody></table></div>'


def _stage_row(stage: Stage, total: float) -> str:
    end = stage.seconds if stage.seconds is not None else total
    colour = "#D55E00" if stage.failed else "#009E73" if stage.seconds is not None else "#56B4E9"
    word = "failed" if stage.failed else f"{end - stage.began:.1f} s" if stage.seconds is not None else "…"
    left, width = 100 * stage.began / total, max(0.5, 100 * (end - stage.began) / total)
    note = f" <small>{html.escape(stage.note)}</small>" if stage.note else ""
    return (
        f'<tr><td style="text-align:left;white-space:nowrap">{html.escape(stage.name)}{note}</td>'
        f'<td style="text-align:right;white-space:nowrap">{word}</td><td style="width:50%">'
        f'<div style="margin-left:{left:.1f}%;width:{width:.1f}%;height:0.8em;background:{colour}"></div></td></tr>'
    )


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    current: Any = shell.get_ipython()
    return current is not None and hasattr(current, "kernel")


def notebook_listener() -> Callable[[Progress], None] | None:
    """Return a listener that draws the stages below the cell, or None outside a notebook."""
    if not in_notebook():
        return None
    from IPython.display import HTML, display

    handle: Any = None

    def listen(progress: Progress) -> None:
        nonlocal handle
        if not progress.stages:
            return
        if handle is None:
            handle = display(HTML(stages_html(progress)), display_id=True)
        else:
            handle.update(HTML(stages_html(progress)))

    return listen


PATIENCE = 1.0
"""Seconds that a reader of a notebook waits without a message; after that, `busy` shows one."""

_waiting: list[str] = []
"""What the running cell waits for: the outer operation first, then the operations inside it."""


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show below a notebook's cell what it waits for, with the seconds, until the block ends.

    Nothing is shown outside a cell, and nothing if the block ends within a second. A block within another one adds its
    text. The text is removed at the end, so neither a saved notebook nor a comparison of outputs contains it.

    Parameters
    ----------
    what : str
        What happens, such as ``starting connect``.
    """
    if not _in_cell():
        yield
        return
    _waiting.append(what)
    try:
        if len(_waiting) > 1:
            yield
        else:
            with _line_of_text(lambda: ": ".join(_waiting)):
                yield
    finally:
        _waiting.pop()


@contextmanager
def _line_of_text(text: Callable[[], str]) -> Iterator[None]:
    from IPython.display import display

    began, ended = time.monotonic(), threading.Event()

    def show() -> None:
        handle: Any = None
        while not ended.wait(PATIENCE):
            # nbval skips an output that has no data, and ignores later updates of it.
            handle = handle or display({}, raw=True, display_id=True)
            line = f"… {text()} ({time.monotonic() - began:.0f} s)"
            handle.update({"text/plain": line, "text/html": f"<small>{html.escape(line)}</small>"}, raw=True)
        if handle:
            handle.update({}, raw=True)

    # The context contains the cell to which the output belongs.
    thread = threading.Thread(target=copy_context().run, args=(show,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _in_cell() -> bool:
    """Return whether this thread runs a notebook's cell; a click on a button and a thread of a view do not."""
    if not in_notebook() or threading.current_thread() is not threading.main_thread():
        return False
    kernel: Any = sys.modules["IPython"].get_ipython().kernel
    message = kernel.get_parent("shell").get("header", {}).get("msg_type")
    return bool(message == "execute_request")
