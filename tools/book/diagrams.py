"""Render Mermaid diagrams as pictures without a browser or a network: mermaidx runs Mermaid in QuickJS."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

FENCED = re.compile(r"^```mermaid\n(?P<source>.*?)^```$", re.M | re.S)
DESCRIPTION = re.compile(r"^\s*accDescr: (?P<text>.+)$", re.M)
FOLDER = "diagrams"
"""The book's folder of diagrams."""

DARK = {
    "#ECECFF": "#2c2f45",
    "#9370DB": "#9d8cdb",
    "#333333": "#d8dadd",
    "#333": "#d8dadd",
    "rgba(232,232,232, 0.8)": "rgba(40,42,46,0.85)",
    "rgba(232, 232, 232, 0.5)": "rgba(40,42,46,0.85)",
    "black": "#d8dadd",
}
"""Colours for a dark page, by Mermaid's colours."""


@dataclass
class Diagrams:
    """Render the pictures of a book, each once.

    Attributes
    ----------
    cache : Path
        The folder that keeps pictures between builds.
    pictures : dict
        SVG by path relative to the book's root.
    """

    cache: Path
    pictures: dict[str, str] = field(default_factory=dict)

    def replace(self, text: str, up: str) -> str:
        """Return a Markdown text with a picture in place of each diagram. `up` is the path to the book's root."""
        return FENCED.sub(lambda found: self._picture(found["source"], up), text)

    def _picture(self, source: str, up: str) -> str:
        description = DESCRIPTION.search(source)
        if not description:
            raise ValueError(f"this diagram has no accDescr:\n{source}")
        name = hashlib.sha256(source.encode()).hexdigest()[:12]
        light, dark = f"{FOLDER}/{name}.svg", f"{FOLDER}/{name}-dark.svg"
        if light not in self.pictures:
            self.pictures[light] = cached_svg(source, self.cache)
            self.pictures[dark] = dark_variant(self.pictures[light])
        blocks = [(light, "only-light"), (dark, "only-dark")]
        return "\n\n".join(
            f"```{{image}} {up}{path}\n:alt: {description['text']}\n:class: diagram {theme}\n```"
            for path, theme in blocks
        )


def cached_svg(source: str, cache: Path) -> str:
    """Return a diagram as SVG, cached in this folder. Rendering takes a second or two."""
    key = hashlib.sha256(f"{metadata.version('mermaidx')} {source}".encode()).hexdigest()
    cached = cache / f"{key}.svg"
    if not cached.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = cached.with_suffix(f".{os.getpid()}")
        unfinished.write_text(render(source), encoding="utf-8")
        unfinished.replace(cached)
    return cached.read_text(encoding="utf-8")


def render(source: str) -> str:
    """Return a diagram as SVG."""
    import mermaidx

    svg: str = mermaidx.render(source).svg()
    # A standalone file has no page to fill, so it needs an explicit width.
    width = re.search(r"max-width: ([\d.]+)px", svg)
    return svg.replace('width="100%"', f'width="{width[1]}"', 1) if width else svg


def dark_variant(svg: str) -> str:
    """Return a diagram in colours for a dark page."""
    colours = sorted(DARK, key=len, reverse=True)
    return re.sub("|".join(rf"{re.escape(colour)}(?![\w-])" for colour in colours), lambda found: DARK[found[0]], svg)
