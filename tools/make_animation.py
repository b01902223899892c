#!/usr/bin/env python3
"""Make the README's moving picture: twenty seconds of the system map in a real JupyterLab, while orders go through.

    python tools/make_animation.py             writes docs/images/lab-in-action.gif
    python tools/make_animation.py --seconds 5 some.gif

Uses the lab of LAB_NAME, which it starts if it isn't running, and resets before and after.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from labkit import Session, begin  # noqa: E402
from tools.get_chromium import chromium  # noqa: E402
from tools.save_notebooks import METADATA  # noqa: E402
from tools.screenshot_notebooks import FLAGS, choose_menu_item, jupyterlab  # noqa: E402

TARGET = ROOT / "docs" / "images" / "lab-in-action.gif"
Script = list[tuple[float, Callable[[], object]]]
"""The actions in the picture: for each, the second and the function to call."""

PER_SECOND = 5
WIDTH = 860
COLOURS = 96
CELLS = ['from labkit import begin\nlab, shop, look, tasks = begin("00")', "look.map()"]


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    if not (executable := chromium()):
        parser.error("there is no Chromium on this machine; `python tools/get_chromium.py` may get one")
    session = begin("00")
    session.lab.reset()
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            notebook = Path(folder) / "live.ipynb"
            cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), notebook)
            with jupyterlab("light", [notebook]) as address:
                browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
                page = browser.new_page(viewport={"width": 1280, "height": 1100})
                page.goto(address.format("notebooks/live.ipynb"))
                page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
                page.get_by_text("| Idle").first.wait_for(timeout=60_000)
                choose_menu_item(page, "Run", "Run All Cells")
                view = page.locator(".lk-view").first
                view.wait_for(timeout=60_000)
                page.wait_for_timeout(2000)
                frames = capture_frames(view.screenshot, script(session), arguments.seconds)
                browser.close()
    finally:
        session.lab.reset()
    save(frames, arguments.target)
    print(f"{arguments.target}: {len(frames)} frames, {arguments.target.stat().st_size / 1e6:.1f} MB")
    return 0


def script(session: Session) -> Script:
    """Return the actions in the picture with their times in seconds."""
    shop, lab = session.shop, session.lab

    def order(customer: str, destination: str = "lisbon") -> Callable[[], object]:
        return lambda: shop.place_order(customer, destination, {"earl-grey": 1})

    return [
        (1.0, order("ada")),
        (3.5, order("broke-bob")),
        (6.0, order("grace", "tristan-da-cunha")),
        (8.5, lambda: lab.faults.pause("shipping")),
        (9.5, order("hedy")),
        (10.5, order("ada", "rome")),
        (13.5, lambda: lab.faults.resume("shipping")),
        (16.0, order("radia")),
        (17.0, order("nobody")),
    ]


def capture_frames(
    capture: Callable[[], bytes], actions: list[tuple[float, Callable[[], object]]], seconds: float
) -> list[Image.Image]:
    """Take `PER_SECOND` pictures a second, and run each action at its time."""
    frames, pending, began = [], list(actions), time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        if pending and now >= pending[0][0]:
            pending.pop(0)[1]()
        frames.append(Image.open(io.BytesIO(capture())).convert("RGB"))
        time.sleep(max(0.0, len(frames) / PER_SECOND - (time.monotonic() - began)))
    return frames


def save(frames: list[Image.Image], target: Path) -> None:
    """Write the frames as a GIF, small enough for a README."""
    height = round(frames[0].height * WIDTH / frames[0].width)
    small = [frame.resize((WIDTH, height), Image.Resampling.LANCZOS) for frame in frames]
    # One palette for all frames, from moments in which different parts of the map are lit.
    sampled = small[:: max(1, len(small) // 8)]
    combined = Image.new("RGB", (WIDTH, height * len(sampled)))
    for number, frame in enumerate(sampled):
        combined.paste(frame, (0, number * height))
    palette = combined.quantize(COLOURS)
    quantized = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in small]
    target.parent.mkdir(parents=True, exist_ok=True)
    quantized[0].save(
        target, save_all=True, append_images=quantized[1:], duration=1000 // PER_SECOND, loop=0, optimize=True
    )


if __name__ == "__main__":
    sys.exit(main())
