"""The line that tells a learner what a cell waits for, in a real kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from labstack.lifecycle.report import busy

WAIT = """
import threading, time
from labstack.lifecycle import report
report.PATIENCE = 0.1

def wait(seconds):
    with report.busy("starting connect"):
        with report.busy("waiting for the connector of order"):
            time.sleep(seconds)
"""


class Recorder(NotebookClient):
    """A client that records each message about an output."""

    seen: list[dict[str, Any]]

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if "display" in msg["msg_type"]:
            self.seen.append(msg["content"]["data"])
        return super().process_message(msg, cell, cell_index)


def run(*cells: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """Run cells in a new kernel; return the data of the display messages, and the outputs of the last cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Recorder(notebook, timeout=60)
    client.seen = []
    client.execute()
    return client.seen, notebook.cells[-1].outputs


def test_a_long_wait_is_shown_and_leaves_nothing() -> None:
    """A cell shows what it waits for, the whole and its part, with the seconds; in the end the output is empty."""
    seen, outputs = run(WAIT, "wait(0.5)\n'done'")
    assert seen[0] == seen[-1] == {}
    assert seen[1]["text/plain"].startswith("… starting connect: waiting for the connector of order (")
    assert [output.get("data") for output in outputs] == [{}, {"text/plain": "'done'"}]


@pytest.mark.parametrize(
    "cell",
    ["wait(0)", "thread = threading.Thread(target=wait, args=(0.3,))\nthread.start()\nthread.join()"],
    ids=["short", "in a thread"],
)
def test_a_short_wait_and_a_thread_show_nothing(cell: str) -> None:
    """A wait that ends at once shows nothing, and neither does one in the thread of a view."""
    assert run(WAIT, cell) == ([], [])


def test_nbval_does_not_see_the_line(tmp_path: Path) -> None:
    """A saved notebook without the line passes the comparison."""
    cell = nbformat.v4.new_code_cell(f"{WAIT}\nwait(0.5)\nprint('done')", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="done\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--nbval", "--nbval-current-env", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_nothing_is_shown_outside_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """A program or a test prints nothing."""
    with busy("starting connect"):
        pass
    assert capsys.readouterr().out == ""
