"""Timelines as SVG: bars and arrows in lanes, with a scale in milliseconds.

Texts have the colour of the surrounding page's text, and the background is transparent, so they are legible in a light
and in a dark theme, in JupyterLab and in any other page. A colour with a meaning fills a shape beside the text.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path

from labkit.views.picture_files import save_picture
from labstack.arguments import checked_class

TEXT = "currentColor"
TINT = 0.14
"""The opacity of a lane's colour behind text: it leaves the text a contrast of more than 4.5:1 in both themes."""
LINE = 0.65
"""The opacity of a line, which may cross a name."""
FONT = "font-family:var(--jp-ui-font-family, sans-serif);font-size:12px"
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)


@checked_class
@dataclass
class Picture:
    """One picture.

    Parameters
    ----------
    title : str
        The title above the picture.
    alt : str
        The picture in words.
    milliseconds : float
        The length of the period.
    left, width, height : int
        In pixels: the width of the lanes' names, the total width, and the height of the drawing.
    """

    title: str
    alt: str
    milliseconds: float
    height: int
    left: int = 150
    width: int = 900
    _parts: list[str] = field(default_factory=list)

    def x(self, milliseconds: float) -> float:
        """Return the horizontal position of a moment, in pixels."""
        return self.left + (self.width - self.left - 20) * milliseconds / max(self.milliseconds, 0.001)

    def label(self, x: float, y: float, text: str, *, anchor: str = "start", style: str = "") -> None:
        """Draw a text."""
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        self._parts.append(f'<text {place} style="fill:{TEXT};{style}">{html.escape(text)}</text>')

    def band(self, y: float, height: float, colour: str, name: str) -> None:
        """Draw a lane: a tinted band, with a mark in its full colour and a name at the left."""
        self._parts.append(
            f'<rect x="0" y="{y:.1f}" width="{self.width}" height="{height:.1f}" fill="{colour}" '
            f'fill-opacity="{TINT}"/><rect x="0" y="{y:.1f}" width="6" height="{height:.1f}" fill="{colour}"/>'
        )
        self.label(14, y + height / 2 + 4, name, style="font-weight:bold")

    def line(
        self, a: tuple[float, float], b: tuple[float, float], colour: str, *, dash: str = "", arrow: bool = False
    ) -> None:
        """Draw a line, optionally with an arrowhead at its end."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{colour}" '
            f'stroke-opacity="{LINE}" stroke-width="1.6"{more}/>'
        )
        if arrow:
            self._head(a, b, colour)

    def _head(self, a: tuple[float, float], b: tuple[float, float], colour: str) -> None:
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = max((dx * dx + dy * dy) ** 0.5, 0.001)
        ux, uy = dx / length, dy / length
        left = (b[0] - 8 * ux - 4 * uy, b[1] - 8 * uy + 4 * ux)
        right = (b[0] - 8 * ux + 4 * uy, b[1] - 8 * uy - 4 * ux)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (b, left, right))
        self._parts.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="{LINE}"/>')

    def bar(
        self, start: float, end: float, y: float, colour: str, tip: str, *, height: float = 14, hatched: bool = False
    ) -> None:
        """Draw a bar from one moment to another, with a tooltip."""
        x, width = self.x(start), max(self.x(end) - self.x(start), 2)
        fill = f"{colour}55" if hatched else colour
        edge = f' stroke="{colour}" stroke-dasharray="3 2"' if hatched else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2" fill="{fill}"{edge}>'
            f"<title>{html.escape(tip)}</title></rect>"
        )

    def dot(self, x: float, y: float, colour: str, tip: str) -> None:
        """Draw a dot with a tooltip."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" stroke="{TEXT}" stroke-width="1">'
            f"<title>{html.escape(tip)}</title></circle>"
        )

    def svg(self) -> str:
        """Return the picture as SVG."""
        scale = self._scale()
        height = self.height + 48
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height}" role="img" '
            f'aria-label="{html.escape(self.alt)}" style="{FONT};max-width:100%;height:auto;background:transparent">'
            f"<title>{html.escape(self.title)}</title>"
            f'<text x="0" y="14" style="fill:{TEXT};font-weight:bold">{html.escape(self.title)}</text>'
            f'<g transform="translate(0,24)">{scale}{"".join(self._parts)}</g></svg>'
        )

    def _scale(self) -> str:
        step = next((step for step in STEPS if self.milliseconds / step <= 10), STEPS[-1])
        marks = []
        for number in range(int(self.milliseconds // step) + 1):
            x = self.x(number * step)
            marks.append(
                f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{self.height}" stroke="{TEXT}" stroke-opacity="0.3" '
                'stroke-width="0.5"/>'
                f'<text x="{x:.1f}" y="{self.height + 16}" text-anchor="middle" style="fill:{TEXT};font-size:10px">'
                f"{number * step:g}{' ms' if number == 0 else ''}</text>"
            )
        return "".join(marks)

    def save(self, path: str | Path) -> Path:
        """Write the picture to an SVG or PNG file, with fixed colours instead of JupyterLab's."""
        return save_picture(self.svg(), path)
