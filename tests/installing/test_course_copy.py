"""`lab notebooks`: the learner's own copy of the course."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import date
from pathlib import Path

import httpx
import nbformat
import pytest
from click.testing import CliRunner

from labstack.cli import main
from labstack.clients import http
from labstack.config.paths import TREE
from labstack.errors import LabError, StorageError
from labstack.jupyter import course_copy
from labstack.jupyter.course_copy import FIRST, copy_course, without_dead_links, without_outputs
from labstack.ports.free import choose
from labstack.waiting import wait_until

FIRST_DAY, LATER = date(2026, 3, 1), date(2026, 4, 2)
NOTEBOOK = "notebooks/01-one-order.ipynb"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    copy_course(folder, FIRST_DAY)
    return folder


def committed_notebooks() -> list[str]:
    """Return the path of each notebook of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", "notebooks/**.ipynb"], cwd=TREE, capture_output=True)
    if listed.returncode:
        pytest.skip("this is no clone of the repository")
    return [name for name in listed.stdout.decode().split("\0") if name]


def test_the_copy_has_every_notebook_without_outputs(copied: Path) -> None:
    """The copy has each notebook of the course, valid, and without outputs."""
    names = committed_notebooks()
    assert len(names) >= 15
    for name in names:
        notebook = nbformat.read(copied / name, 4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
        original = nbformat.read(TREE / name, 4)
        assert [cell.source for cell in notebook.cells] == [cell.source for cell in original.cells]


def test_every_link_of_a_notebook_resolves(copied: Path) -> None:
    """The copy contains every file that a notebook links to."""
    dead = []
    for path in copied.glob("notebooks/**/*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                links = re.findall(r"\]\(((?!\w+:|#)[^)\s#]+)", cell.source)
                dead += [(path.name, link) for link in links if not (path.parent / link).exists()]
    assert dead == []


def test_every_link_of_a_document_resolves(copied: Path) -> None:
    """The copied documents link only to files of the copy."""
    documents = list(copied.rglob("*.md"))
    links = [(path, link) for path in documents for link in course_copy.LINK.findall(path.read_text(encoding="utf-8"))]
    assert len(links) > 50
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []


def test_a_link_to_a_missing_file_becomes_plain_text() -> None:
    """A link to a file that a wheel lacks becomes plain text; pictures, anchors and other links stay."""
    text = "[the `suite`](../tests/nothing.py#top), [the course](course.md#top), [above](#top), ![a](no.png), [w](https://x.org/a)"
    assert without_dead_links("docs/here.md", text) == text.replace(
        "[the `suite`](../tests/nothing.py#top)", "the `suite`"
    )


def test_a_later_copy_keeps_changed_files(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later copy updates unchanged files, and puts a newer version beside a file that the learner changed."""
    (copied / NOTEBOOK).write_text("my work", encoding="utf-8")
    newer = {NOTEBOOK: b"newer 1", FIRST: b"newer 0"}
    monkeypatch.setattr(course_copy, "course", lambda: iter(newer.items()))
    done = copy_course(copied, LATER)
    assert (copied / NOTEBOOK).read_text(encoding="utf-8") == "my work"
    assert (copied / FIRST).read_bytes() == b"newer 0"
    assert (copied / "notebooks/01-one-order.2026-04-02.ipynb").read_bytes() == b"newer 1"
    assert (done.written, done.kept) == ((FIRST,), (NOTEBOOK,))
    assert done.beside == ("notebooks/01-one-order.2026-04-02.ipynb",)
    again = copy_course(copied, LATER)
    assert (again.written, again.kept, again.beside) == ((), (NOTEBOOK,), ())


def test_a_quiet_copy_prints_only_what_lies_beside_changes(tmp_path: Path) -> None:
    """With `--quiet`, the command prints nothing but the names of newer versions beside the learner's files."""
    mine = tmp_path / "course" / NOTEBOOK
    mine.parent.mkdir(parents=True)
    mine.write_text("my work", encoding="utf-8")
    first, second = (CliRunner().invoke(main, ["notebooks", "--quiet", str(mine.parents[1])]) for _ in range(2))
    (line,) = first.output.splitlines()
    assert "Your changes are kept" in line
    assert NOTEBOOK.removesuffix("ipynb") in line
    assert (first.exit_code, second.exit_code, second.output) == (0, 0, "")


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """A file that exists before the first copy is not overwritten, whatever its name."""
    own = tmp_path / FIRST
    own.parent.mkdir(parents=True)
    own.write_text("mine", encoding="utf-8")
    done = copy_course(tmp_path, FIRST_DAY)
    assert own.read_text(encoding="utf-8") == "mine"
    assert done.beside == ("notebooks/00-start-here.2026-03-01.ipynb",)


def test_nothing_is_overwritten_without_a_readable_record(copied: Path) -> None:
    """Without a readable record of the files that were written, nothing is overwritten."""
    (copied / course_copy.NOTE).write_text("{", encoding="utf-8")
    (copied / NOTEBOOK).write_text("my work", encoding="utf-8")
    copy_course(copied, LATER)
    assert (copied / NOTEBOOK).read_text(encoding="utf-8") == "my work"


def test_an_invalid_target_is_rejected(tmp_path: Path) -> None:
    """The course itself is rejected as the target, and so is a path that is a file."""
    with pytest.raises(LabError, match="course itself"):
        copy_course(TREE)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        copy_course(tmp_path / "file")


def test_the_printed_command_opens_the_first_notebook_among_its_documents(tmp_path: Path) -> None:
    """The last line of `lab notebooks FOLDER` starts JupyterLab on the copy, which also serves the linked documents.

    It does so in a shell that does not find the environment's programs, too.
    """
    folder = tmp_path / "my course"
    own = str(Path(sys.executable).parent)
    done = CliRunner().invoke(main, ["notebooks", str(folder)], env={"PATH": f"{own}:{os.environ['PATH']}"})
    assert "&& jupyter lab" in done.output
    path = "/usr/bin:/bin"
    done = CliRunner().invoke(main, ["notebooks", str(folder)], env={"PATH": path})
    assert done.exit_code == 0, done.output
    port = choose(0, {0})
    options = f" --no-browser --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0"
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    environment = {**os.environ, **folders, "JUPYTER_TOKEN": "t", "PATH": path}
    command = done.output.splitlines()[-1].strip().replace("&& ", "&& exec ") + options
    server = subprocess.Popen(
        command, shell=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def get(path: str) -> int:
            with suppress(httpx.HTTPError):
                return http.get(f"http://127.0.0.1:{port}/{path}", params={"token": "t"}).status_code
            return 0

        assert wait_until(lambda: get("api") == 200, 60)
        assert [get(f"api/contents/{name}") for name in (FIRST, "docs/course.md")] == [200, 200]
        opened = http.get(f"http://127.0.0.1:{port}/", params={"token": "t"}, follow_redirects=True)
        assert opened.url.path == f"/lab/tree/{FIRST}"
    finally:
        server.terminate()
        server.wait(30)


def test_cells_keep_their_ids_tags_and_sources() -> None:
    """Cells keep their ids, tags and sources."""
    text = (TREE / FIRST).read_text(encoding="utf-8")
    before, after = json.loads(text)["cells"], json.loads(without_outputs(text))["cells"]
    kept = ("id", "source", "metadata", "cell_type")
    assert [[cell[key] for key in kept] for cell in after] == [[cell[key] for key in kept] for cell in before]
