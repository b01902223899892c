"""Pictures to keep: an SVG or PNG file that looks the same outside of JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.errors import KitError

THEMED = re.compile(r"var\(--[\w-]+,\s*([^()]+)\)")
"""A colour or font of JupyterLab's, and what stands for it elsewhere."""
SHARP = 2.0
"""Pixels of a PNG for each of the picture's."""


def keep(svg: str, path: str | Path) -> Path:
    """Write a picture to a file.

    Parameters
    ----------
    svg : str
        The picture.
    path : str or Path
        Where to; ``.svg`` or ``.png`` says as what.

    Raises
    ------
    KitError
        The name ends in something else.
    """
    target = Path(path)
    plain = THEMED.sub(r"\1", svg)
    if target.suffix == ".svg":
        target.write_text(plain, encoding="utf-8")
    elif target.suffix == ".png":
        target.write_bytes(_png(plain))
    else:
        raise KitError(f"{target.name} is no name for a picture.", next_step="let it end in .svg or .png")
    return target


def _png(svg: str) -> bytes:
    import matplotlib
    import resvg_py

    # The font that matplotlib brings: a machine may have none.
    fonts = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    drawn: bytes = resvg_py.svg_to_bytes(
        svg_string=svg,
        background="#ffffff",
        zoom=SHARP,
        skip_system_fonts=True,
        font_dirs=[fonts],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
    )
    return bytes(drawn)
