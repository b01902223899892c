"""The waterfall of a trace: a bar for each span, below its parent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.sources.traces import RELAY, Span, Trace
from labkit.views.drawing.colours import GREY, SERVICES, SKY, VERMILION
from labkit.views.drawing.svg import Picture
from labstack.arguments import checked_class

ROW = 20
GATEWAY = "gateway"


@checked_class
class Waterfall:
    """A trace, displayed.

    In a notebook it is a picture; printed it is a table.

    Parameters
    ----------
    trace : Trace
        The trace to show.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trace, name)

    @property
    def alt(self) -> str:
        """The picture in words."""
        spans = self.trace.spans
        failed = [span.label for span in spans if span.failed]
        slowest = self.trace.slowest()
        return (
            f"Waterfall of {len(spans)} spans of {len({span.service for span in spans})} services over "
            f"{self.trace.milliseconds:.0f} ms. Longest by itself: {slowest.label}, "
            f"{self.trace.own_milliseconds(slowest):.0f} ms. Failed: {', '.join(failed) or 'none'}."
        )

    def picture(self) -> Picture:
        """Draw the waterfall."""
        rows = self.trace.walk()
        zero = self.trace.spans[0].start
        length = self.trace.milliseconds
        picture = Picture(f"Trace {self.trace.trace_id[:8]}…", self.alt, length, ROW * len(rows), left=330)
        for number, (depth, span) in enumerate(rows):
            y = ROW * number
            mark = "✗ " if span.failed else ""
            picture.label(4 + 9 * min(depth, 18), y + 14, mark + span.label, style="font-size:11px")
            begin, end = (span.start - zero) / 1e6, (span.end - zero) / 1e6
            picture.bar(begin, end, y + 3, colour_of(span), self._tip(span), hatched=span.service == RELAY)
            late = end > 0.85 * length
            picture.label(
                picture.x(begin) - 4 if late else picture.x(end) + 4,
                y + 14,
                f"{span.milliseconds:.1f}",
                anchor="end" if late else "start",
                style="font-size:10px",
            )
        return picture

    def _tip(self, span: Span) -> str:
        facts = [f"{name}: {value}" for name, value in sorted(span.attributes.items())]
        return "\n".join([f"{span.label}, {span.milliseconds:.2f} ms", *([span.error] if span.failed else []), *facts])

    def save(self, path: str | Path) -> Path:
        """Write the picture to an SVG or PNG file."""
        return self.picture().save(path)

    def __repr__(self) -> str:
        return self.trace.table().to_string(index=False)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.picture().svg()}


def colour_of(span: Span) -> str:
    """Return the colour of a span: its service's, or a separate one if the span failed."""
    if span.failed:
        return VERMILION
    return SKY if span.service == GATEWAY else SERVICES.get(span.service, GREY)
