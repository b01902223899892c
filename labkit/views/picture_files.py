"""Pictures saved as SVG or PNG files that look the same outside JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.errors import KitError

THEME_VARIABLE = re.compile(r"var\(--[\w-]+,\s*([^()]+)\)")
"""A colour or font of JupyterLab, with its fallback."""
PNG_SCALE = 2.0
"""Pixels of a PNG for each pixel of the picture."""


def save_picture(svg: str, path: str | Path) -> Path:
    """Write a picture to a file.

    Parameters
    ----------
    svg : str
        The picture.
    path : str or Path
        The target; its suffix, ``.svg`` or ``.png``, determines the format.

    Raises
    ------
    KitError
        The suffix is neither of them.
    """
    target = Path(path)
    plain = THEME_VARIABLE.sub(r"\1", svg)
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

    # Use the font that matplotlib ships, because a machine may have none.
    fonts = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    png: bytes = resvg_py.svg_to_bytes(
        svg_string=svg,
        background="#ffffff",
        zoom=PNG_SCALE,
        skip_system_fonts=True,
        font_dirs=[fonts],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
    )
    return bytes(png)
