"""The diagram, the tables next to it, and the repository agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tools.render_diagram import digest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs" / "architecture.mmd"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SEED = tomllib.loads((Path(__file__).parent / "seed_diagram.toml").read_text(encoding="utf-8"))
NOT_BUILT = "**not built yet**, reserved: "

Arrow = tuple[str, str, str]  # from, to, label


def boxes_of_diagram() -> dict[str, tuple[str, str]]:
    """Return the (group, label) of each box in the Mermaid source, by id."""
    boxes, group = {}, ""
    for line in SOURCE.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r'    subgraph (?:\w+\["([^"]+)"\]|(\w+))', line):
            group = match[1] or match[2]
        elif match := re.fullmatch(r" {8}(?: {4})?(\w+)\[\(?([^\])]+)\)?\]", line):
            boxes[match[1]] = (group, match[2])
    return boxes


def arrows_of_diagram() -> set[Arrow]:
    """Return the arrows of the Mermaid source, regardless of their style."""
    text = SOURCE.read_text(encoding="utf-8")
    found = re.findall(r"^    (\w+) (?:-->|-\.->)\|([^|]+)\| (\w+)$", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"-->|-\.->", text)), "every arrow stands alone on its line and has a label"
    assert len(set(found)) == len(found), "no arrow is drawn twice"
    return {(start, end, label) for start, label, end in found}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row in the table under this heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


LOCATIONS = [pytest.param(row[2], id=row[0].replace("`", "")) for row in rows("Boxes") + rows("Arrows")]


def paths(text: str) -> list[str]:
    return [word for word in re.findall(r"`([^`]+)`", text) if "/" in word and " " not in word]


def test_the_diagram_keeps_the_boxes_of_the_seed() -> None:
    """The diagram has exactly the boxes of the seed, with the same labels and groups."""
    seed = {name: (group, label) for group, boxes in SEED["boxes"].items() for name, label in boxes.items()}
    assert boxes_of_diagram() == seed


def test_the_diagram_keeps_the_arrows_of_the_seed() -> None:
    """The diagram has exactly the arrows of the seed, with the same directions and labels."""
    seed = {(*pair.split(" -> "), label) for pair, labels in SEED["arrows"].items() for label in labels}
    assert arrows_of_diagram() == seed


def test_table_lists_every_box() -> None:
    """The table of boxes lists each box of the diagram once, with its label, and no other box."""
    table = [(row[0].strip("`"), row[1]) for row in rows("Boxes")]
    assert sorted(table) == sorted((name, label) for name, (_, label) in boxes_of_diagram().items())


def test_table_lists_every_arrow() -> None:
    """The table of arrows lists each arrow of the diagram once, and no other arrow."""
    table = [(*re.findall(r"`(\w+)`", row[0]), row[1]) for row in rows("Arrows")]
    assert sorted(table) == sorted(arrows_of_diagram())


@pytest.mark.parametrize("location", LOCATIONS)
def test_every_path_in_the_tables_exists(location: str) -> None:
    """Each path and function that a row names exists, and reserved folders do not exist yet."""
    found = paths(location)
    assert found, "a row names at least one path"
    reserved = re.findall(re.escape(NOT_BUILT) + "`([^`]+)`", location)
    assert location.count("not built yet") == len(reserved), "whatever is not built yet names its reserved folder"
    for path in reserved:
        assert not (ROOT / path).exists(), f"{path} is there now: say in docs/architecture.md what it holds"
    assert [path for path in found if path not in reserved and not (ROOT / path).exists()] == []
    for path, names in re.findall(r"`([^`]+\.py)` \(`([\w.]+)`\)", location):
        name = names.rsplit(".", 1)[-1]
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), names


def test_prose_names_only_existing_paths() -> None:
    """The prose around the tables names only existing paths."""
    prose = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
    assert [path for path in paths(prose) if not (ROOT / path).exists()] == []
    for path in re.findall(r"\]\(([^)]+)\)", prose):
        assert (ROOT / "docs" / path).exists()


def test_picture_is_rendered_from_the_current_source() -> None:
    """The PNG contains the digest of its source, so tools/render_diagram.py ran after the last edit."""
    png = (ROOT / "docs" / "images" / "architecture.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"tEXtSources\0" + digest(SOURCE).encode() in png[:200]
