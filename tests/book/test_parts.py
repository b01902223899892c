"""The components that build the book."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from labstack.config.variables import VARIABLES
from tools.book.diagrams import Diagrams
from tools.book.gather import fenced
from tools.book.links import Linker
from tools.book.reference import scenarios
from tools.book.reference.markdown import table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](mesh.md#x)", "[a](mesh.md#x)"),
        ("[a](../notebooks/10-traces.ipynb)", "[a](../notebooks/10-traces.ipynb)"),
        ("[a](../labservices/order/pricing.py)", "[a](../source/labservices/order/pricing.py.md)"),
        ("[a](../lab-stack/istio/)", "[a](../source/lab-stack/istio/index.md)"),
        ("[`a`](../conftest.py)", "[`a`](../source/conftest.py.md)"),
        ("see `tools/lock.py`.", "see [`tools/lock.py`](../source/tools/lock.py.md)."),
        ("`lab/nothing.py` and [a](https://example.com/x)", "`lab/nothing.py` and [a](https://example.com/x)"),
        ("[a](#here)", "[a](#here)"),
        ("```sh\n[a](../conftest.py)\n```\n", "```sh\n[a](../conftest.py)\n```\n"),
    ],
)
def test_a_link_to_a_file_leads_to_its_page(text: str, expected: str) -> None:
    """Links to pages stay, links to other files lead to the page that shows the file, and code is unchanged."""
    linker = Linker(ROOT, {"docs/mesh.md", "notebooks/10-traces.ipynb"})
    assert linker.rewrite(text, "docs/page.md") == expected


def test_a_link_to_a_missing_file_raises_an_error() -> None:
    """A link to a missing file, or to a file outside the tree, raises an error."""
    linker = Linker(ROOT, set())
    for target in ("nothing.py", "../../elsewhere.md"):
        with pytest.raises(FileNotFoundError, match=r"docs/page\.md"):
            linker.rewrite(f"[a]({target})", "docs/page.md")


def test_a_diagram_becomes_two_pictures(tmp_path: Path) -> None:
    """A diagram is drawn once, becomes a light and a dark picture with its description, and is cached."""
    diagrams = Diagrams(tmp_path)
    source = "```mermaid\nflowchart LR\n    accDescr: One thing leads to another.\n    A --> B\n```\n"
    text = diagrams.replace(source, "../")
    assert text.count(":alt: One thing leads to another.") == 2
    light, dark = diagrams.pictures.values()
    assert "<svg" in light
    assert light != dark
    (kept,) = tmp_path.iterdir()
    assert kept.read_text(encoding="utf-8") == light
    with pytest.raises(ValueError, match="accDescr"):
        diagrams.replace("```mermaid\nflowchart LR\n    A --> B\n```\n", "")


def test_a_file_with_fences_gets_a_longer_fence() -> None:
    """A file that contains fences is shown within a longer fence."""
    assert fenced("a\n```sh\nb\n```\n", "text") == "````text\na\n```sh\nb\n```\n````"


def test_bars_and_line_breaks_do_not_break_a_table() -> None:
    """A bar or a line break in a cell does not break the table."""
    assert table(["a"], [("x | y\nz",)]).splitlines()[-1] == r"| x \| y z |"


def test_the_page_of_a_scenario_shows_each_key(tmp_path: Path) -> None:
    """Without scenario files there is no page, and a scenario's page shows each of its keys."""
    assert scenarios.page(tmp_path) is None
    folder = tmp_path / scenarios.FOLDER
    folder.mkdir(parents=True)
    (folder / "no-stock.toml").write_text(
        'title = "Sold out"\nminutes = 5\nstory = "None left."\nwatch = ["stock", "tea"]\n[heal]\nverb = "reset"\n'
    )
    text = scenarios.page(tmp_path)
    assert text is not None
    assert "| [`no-stock`](#scenario-no-stock) | Sold out | 5 |" in text
    assert "| watch | stock; tea |" in text
    assert "| heal | verb: reset |" in text


def variables_read_by_the_lab() -> set[str]:
    """Return the environment variables that the lab's code reads, with NAME for an inserted name."""
    names = set()
    for path in (ROOT / "lab-stack" / "labstack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="get", value=ast.Attribute(attr="environ")), args=[name, *_]):
                    names.add(name)
                case ast.Subscript(value=ast.Attribute(attr="environ"), slice=name):
                    names.add(name)
                case ast.keyword(arg="envvar", value=name):
                    names.add(name)
    written = {ast.unparse(name) for name in names if isinstance(name, ast.Constant | ast.JoinedStr)}
    return {re.sub(r"\{[^}]*\}", "NAME", name.removeprefix("f").strip("'\"")) for name in written}


def test_every_variable_that_the_lab_reads_is_described() -> None:
    """labstack.config.variables describes each environment variable that the lab reads, and none without effect."""
    read = variables_read_by_the_lab()
    assert {"LAB_NAME", "LAB_MODE", "LAB_IMAGE_NAME"} <= read
    assert read - set(VARIABLES) == set()
    folders = (ROOT / "lab-stack" / "labstack", ROOT / "labkit")
    code = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    of_platformdirs = {"XDG_STATE_HOME", "XDG_CACHE_HOME"}
    assert [name for name in VARIABLES if name not in read | of_platformdirs and code.count(f'"{name}"') < 2] == []
