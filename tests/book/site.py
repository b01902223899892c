"""A website read from its files: its pages, with the links, pictures, anchors and words of each page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

VOID = {"img", "br", "hr", "input", "meta", "link", "source", "path", "use", "col", "wbr"}
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}


@dataclass
class Page(HTMLParser):
    """The contents of one page.

    Attributes
    ----------
    links : list of str
        Targets of its links.
    loaded : list of str
        Files that a browser loads to show it: pictures, scripts, styles.
    pictures : list of dict
        Attributes of each img element.
    ids : set of str
        Anchors that links can point to.
    outputs, sources : int
        Numbers of cell outputs and cell inputs.
    words : list of str
        Its text, in pieces.
    """

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    pictures: list[dict[str, str]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    outputs: int = 0
    sources: int = 0
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def text(self) -> str:
        """The page's text as one line."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the links, pictures, anchors and cells of a tag."""
        attributes = {name: value or "" for name, value in attrs}
        self.ids |= {attributes[name] for name in ("id", "name") if name in attributes and tag != "meta"}
        classes = attributes.get("class", "").split()
        self.outputs += "cell_output" in classes
        self.sources += "cell_input" in classes
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag == "img":
            self.pictures.append(attributes)
        self.loaded += [attributes[name] for kind, name in LOADED if kind == tag and name in attributes]

    def handle_data(self, data: str) -> None:
        """Record the text."""
        self.words.append(data)


@dataclass(frozen=True)
class Site:
    """All pages of a folder, by relative path."""

    folder: Path
    pages: dict[str, Page]

    @classmethod
    def read(cls, folder: Path) -> Site:
        """Parse each page of a folder."""
        pages = {}
        for path in sorted(folder.rglob("*.html")):
            page = pages[path.relative_to(folder).as_posix()] = Page()
            page.feed(path.read_text(encoding="utf-8"))
        return cls(folder, pages)

    def link_problem(self, page: str, target: str) -> str:
        """Return the reason why a link of a page is broken; empty if it leads to a target in the site."""
        parts = urlsplit(target)
        path = (self.folder / page).parent / unquote(parts.path) if parts.path else self.folder / page
        path = path.resolve()
        if not path.is_relative_to(self.folder.resolve()):
            return "leads out of the book"
        if not path.is_file():
            return "no such file"
        name = path.relative_to(self.folder.resolve()).as_posix()
        if parts.fragment and unquote(parts.fragment) not in self.pages[name].ids:
            return "no such anchor"
        return ""
