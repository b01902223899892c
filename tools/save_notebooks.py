#!/usr/bin/env python3
"""Run notebooks from the top in a fresh kernel, and save what came out: the only way in which they are saved.

    python tools/save_notebooks.py                       all of them
    python tools/save_notebooks.py notebooks/01-*.ipynb  some
    python tools/save_notebooks.py --check               run, save nothing, and say what would change
    python tools/save_notebooks.py --fresh               keep no old output: after a change of how pictures are drawn

A diff then shows what changed, and nothing else: ids of cells stay, tables have a fixed width, no widget state, no
timings, no version of Python; and an output that differs from the saved one by nothing but ids and times is kept as it
was saved. A notebook with an error is not saved (but for cells tagged `raises-exception`).
"""

from __future__ import annotations

import argparse
import configparser
import copy
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools.scratch_folder import scratch_folder  # noqa: E402

FOLDERS = (ROOT / "notebooks", ROOT / "notebooks" / "build")
CELL_SECONDS = 180
WIDGET = "application/vnd.jupyter.widget-view+json"
EXEMPT = "nbval-ignore-output"
COUNTING = {"progress", "certificate"}
"""The cells whose output counts the exercises of the course, so that an old number is wrong."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class UnsavableNotebook(Exception):
    """The notebook can't be saved; the message gives the reason."""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="save nothing; exit status 1 if something would change")
    parser.add_argument("--fresh", action="store_true", help="keep no old output")
    arguments = parser.parse_args()
    changed = failed = 0
    for path in arguments.notebooks or sorted(path for folder in FOLDERS for path in folder.glob("*.ipynb")):
        began = time.monotonic()
        before = path.read_text(encoding="utf-8")
        try:
            after = as_text(saved_form(nbformat.reads(before, as_version=4), path.parent, fresh=arguments.fresh))
        except UnsavableNotebook as error:
            failed += 1
            print(f"{path.name}: not saved. {error}", file=sys.stderr)
            continue
        same = after == before
        changed += not same
        if not same and not arguments.check:
            path.write_text(after, encoding="utf-8")
        print(f"{path.name}: {'no change' if same else 'changed'}, ran in {time.monotonic() - began:.0f} s")
    return 1 if failed or (arguments.check and changed) else 0


def saved_form(notebook: Any, folder: Path, *, fresh: bool = False) -> Any:
    """Run a notebook, and return it in the form to save.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook as last saved.
    folder : Path
        The notebook's folder. The kernel runs in a copy of it without the learner's files.
    fresh : bool
        Whether to replace all old outputs.

    Raises
    ------
    UnsavableNotebook
        If a cell fails, takes too long or writes to stderr, or two cells have the same id.
    """
    ids = [cell.id for cell in notebook.cells]
    if len(set(ids)) != len(ids):
        raise UnsavableNotebook("Two cells have the same id.")
    kept = [cell for cell in notebook.cells if cell.cell_type == "code" and not fresh and cell.id not in COUNTING]
    old_outputs = {cell.id: cell.outputs for cell in kept}
    result = copy.deepcopy(notebook)
    result.metadata = nbformat.from_dict(METADATA)
    result.cells = [cell for cell in result.cells if cell.source.strip()]
    for cell in result.cells:
        tags = tags_of(cell)
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with scratch_folder(folder) as scratch:
        run(result, scratch)
    for cell in result.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = kept_or_new(old_outputs.get(cell.id, []), tidy(cell.outputs), exempt=EXEMPT in tags_of(cell))
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
    result.metadata = nbformat.from_dict(METADATA)
    return result


def tags_of(cell: Any) -> list[str]:
    """Return the tags of a cell."""
    return sorted(cell.metadata.get("tags", []))


def run(notebook: Any, folder: Path) -> None:
    """Run every cell in a fresh kernel."""
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise UnsavableNotebook(f"A cell failed:\n{error}") from None
    except CellTimeoutError as error:
        raise UnsavableNotebook(f"A cell took more than {CELL_SECONDS} s: {error}") from None
    for cell in notebook.cells:
        errors = [o.text for o in cell.get("outputs", []) if o.output_type == "stream" and o.name == "stderr"]
        if errors:
            raise UnsavableNotebook(f"Cell {cell.id} wrote to stderr: {''.join(errors)}")


def tidy(outputs: list[Any]) -> list[Any]:
    """Remove the parts of outputs that only a live notebook has."""
    for output in outputs:
        output.pop("transient", None)
        if "data" in output:
            output.data.pop(WIDGET, None)
            if output.data.get("text/plain") == "" and "text/html" in output.data:
                # An area for content that differs between runs. nbval compares its initial content, which is empty.
                output.data["text/html"] = ""
    return [output for output in outputs if output.get("data") != {}]  # the line that shows what a cell waits for


def kept_or_new(old: list[Any], new: list[Any], *, exempt: bool) -> list[Any]:
    """Return the old outputs if the new ones differ only in ids and times, else the new ones.

    In cells that are exempt from comparison, numbers may differ as well.
    """
    return old if old and comparable(old, exempt) == comparable(new, exempt) else new


def comparable(outputs: list[Any], exempt: bool) -> list[str]:
    """Return the outputs as nbval compares them: sanitized, without pictures."""
    settings = configparser.RawConfigParser()
    settings.read(ROOT / "tests" / "nbval_sanitize.cfg")
    patterns = [(settings[name]["regex"], settings[name]["replace"]) for name in settings.sections()]
    if exempt:
        patterns += [(r"[0-9A-F/]*\d[0-9A-F/]*", "N"), (r" +", " ")]
    plain = []
    for output in copy.deepcopy(outputs):
        output.pop("execution_count", None)
        output.pop("metadata", None)
        output.get("data", {}).pop("image/png", None)
        text = json.dumps(output, sort_keys=True)
        for regex, replacement in patterns:
            text = re.sub(regex, replacement, text)
        plain.append(text)
    return plain


def as_text(notebook: Any) -> str:
    """Return a notebook as text."""
    nbformat.validate(notebook)
    text: str = nbformat.writes(notebook, version=4)
    return text if text.endswith("\n") else text + "\n"


if __name__ == "__main__":
    sys.exit(main())
