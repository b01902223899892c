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
        The suffix is neither of them, or the file can't be written.
    """
    target = Path(path)
    plain = THEME_VARIABLE.sub(r"\1", svg)
    if target.suffix not in (".svg", ".png"):
        raise KitError(f"{target.name!r} is not the name of a picture.", next_step="end the name with .svg or .png")
    try:
        target.write_bytes(plain.encode() if target.suffix == ".svg" else _png(plain))
    except (OSError, ValueError) as error:
        raise KitError(
            f"{str(path)[:80]!r} can't be written: {error}.", next_step="use a name in an existing, writable folder"
        ) from None
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
