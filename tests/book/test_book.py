"""The book, built once and read as a browser would: all links resolve, and nothing is missing."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import yaml

from labkit.exercises import course
from labservices.settings import FAULT_SWITCHES, Settings, variable
from labstack import Lab
from labstack.cli import main
from labstack.config.variables import VARIABLES
from tests.book.site import Site
from tools.book.reference.metrics import documented, rules
from tools.book.reference.verbs import commands

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for folder in ("notebooks", "notebooks/build") for path in (ROOT / folder).glob("*.ipynb"))


def page_of(notebook: Path) -> str:
    """Return the name of a notebook's page."""
    return notebook.relative_to(ROOT).with_suffix(".html").as_posix()


def is_external(target: str) -> bool:
    return bool(urlsplit(target).scheme) or target.startswith("//")


def test_the_book_is_built_without_a_warning(built: tuple[int, Path]) -> None:
    """Sphinx builds the book without warnings, which it treats as errors."""
    assert built[0] == 0
    assert (built[1] / "index.html").is_file()


def test_every_link_within_the_book_resolves(site: Site) -> None:
    """Each link leads to an existing page, and each fragment to an existing anchor."""
    links = [(page, target) for page, found in site.pages.items() for target in found.links if not is_external(target)]
    assert len(links) > 1000
    assert [(page, target, problem) for page, target in links if (problem := site.link_problem(page, target))] == []


def test_external_links_are_well_formed(site: Site) -> None:
    """Each external link is https and names a host, and none leads to this machine."""
    for page, found in site.pages.items():
        for target in filter(is_external, found.links):
            assert re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/\S*)?", target), (page, target)


def test_pages_load_nothing_from_the_network(site: Site) -> None:
    """The book contains all pictures, scripts and styles, and loads none from elsewhere."""
    for page, found in site.pages.items():
        for target in found.loaded:
            assert not is_external(target) or target.startswith("data:"), (page, target)
            assert target.startswith("data:") or not site.link_problem(page, target), (page, target)
    styles = "".join(path.read_text(encoding="utf-8") for path in site.folder.rglob("*.css"))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", styles)


def test_every_notebook_has_a_page_with_its_outputs(site: Site) -> None:
    """Each notebook of the course is a page with all of its code cells and saved outputs."""
    assert len(NOTEBOOKS) > 10
    for path in NOTEBOOKS:
        page = site.pages[page_of(path)]
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert page.sources == len(cells), path.name
        assert page.outputs == sum(bool(cell.outputs) for cell in cells), path.name


def test_every_document_is_in_the_table_of_contents(site: Site) -> None:
    """The table of contents leads to a page for each Markdown file of docs/ and each notebook."""
    toc = {
        site.folder.joinpath(target).resolve() for target in site.pages["index.html"].links if not is_external(target)
    }
    pages = [*(f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md"))]
    pages += [page_of(path) for path in NOTEBOOKS]
    assert [page for page in pages if page not in site.pages or (site.folder / page).resolve() not in toc] == []


def test_every_picture_has_alt_text(site: Site) -> None:
    """Each picture has alt text that describes it."""
    pictures = [(page, one) for page, found in site.pages.items() for one in found.pictures]
    assert len(pictures) > 20
    assert [(page, one["src"]) for page, one in pictures if len(one.get("alt", "")) < 30] == []


def test_every_diagram_has_a_light_and_a_dark_picture(site: Site) -> None:
    """Each Mermaid diagram is two pictures, one for the light theme and one for the dark theme."""
    for page, found in site.pages.items():
        if page.startswith("notebooks/"):
            assert "flowchart LR" not in found.text
            classes = [one.get("class", "").split() for one in found.pictures]
            assert sum("only-light" in names for names in classes) == sum("only-dark" in names for names in classes)


def test_every_verb_is_in_the_reference(site: Site) -> None:
    """The reference lists each command of `lab` with its usage."""
    page = site.pages["reference/verbs.html"]
    names = [name for name, _ in commands(main, "lab")]
    assert len(names) > 30
    assert [name for name in names if name.replace(" ", "-") not in page.ids or name not in page.text] == []


def test_every_event_is_in_the_reference(site: Site) -> None:
    """The reference lists each event, each of its fields, and each topic of the contracts."""
    contracts = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    page = site.pages["reference/events.html"]
    for name in contracts["components"]["messages"]:
        assert f"event-{name.lower()}" in page.ids
        assert set(contracts["components"]["schemas"][name]["properties"]) <= set(page.words)
    assert {channel["address"] for channel in contracts["channels"].values()} <= set(page.words)


def test_every_metric_is_in_the_reference(site: Site) -> None:
    """The reference lists each metric of the docs' tables, and each rule and alert."""
    page = site.pages["reference/metrics.html"]
    rows = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    names = {name for name, *_ in documented(ROOT)}
    assert names == set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) ", rows, re.M))
    recorded = {rule["record"] for rule in rules(ROOT, "recording")}
    assert (names | recorded) - set(page.words) == set()
    assert {f"alert-{rule['alert'].lower()}" for rule in rules(ROOT, "alerting")} <= page.ids


def test_every_setting_is_in_the_reference(site: Site) -> None:
    """The reference lists each environment variable of the lab and the services, and each fault switch."""
    words = set(site.pages["reference/settings.html"].words)
    assert {*VARIABLES, *map(variable, Settings.model_fields), *FAULT_SWITCHES} - words == set()


def test_every_exercise_is_in_the_reference(site: Site) -> None:
    """The reference lists each exercise of the course by its name."""
    words = set(site.pages["reference/exercises.html"].words)
    assert {exercise.name for exercises in course().values() for exercise in exercises} - words == set()


def test_every_scenario_is_in_the_reference(site: Site) -> None:
    """The reference lists each scenario file, and has no page for scenarios if there are none."""
    files = list((ROOT / "lab-stack" / "scenarios").glob("*.toml"))
    assert ("reference/scenarios.html" in site.pages) == bool(files)
    if files:
        assert {f"scenario-{path.stem}" for path in files} <= site.pages["reference/scenarios.html"].ids


def test_every_method_is_in_the_reference(site: Site) -> None:
    """The reference lists each public method of Lab."""
    ids = site.pages["reference/python.html"].ids
    methods = [name for name in vars(Lab) if not name.startswith("_")]
    assert [name for name in methods if f"labstack.Lab.{name}" not in ids] == []
    assert {
        "labkit.client.shop.Shop.place_order",
        "labkit.inspect.databases.Databases.rows",
        "labkit.inspect.metrics.Metrics.query",
    } <= ids


def test_glossary_entries_are_short_and_in_alphabetical_order() -> None:
    """Terms are unique and in alphabetical order, each with one to three sentences."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = [entry.partition("\n") for entry in text.split("\n## ")[1:]]
    terms = [term.lower() for term, _, _ in entries]
    assert len(terms) > 50
    assert terms == sorted(set(terms))
    assert [term for term, _, words in entries if not 1 <= len(re.findall(r"[.;:](?:\s|$)", words)) <= 5] == []
