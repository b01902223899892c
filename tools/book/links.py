"""Rewrite links from the repository's tree for the book.

A link to a page of the book stays the same, because the book keeps the tree's folders. A link to any other file points
to a page that shows the file. The name of a file in backticks becomes such a link, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)", re.S)
NAMED = re.compile(r"(?<![\[`\w])`(?P<path>[\w.-]+(?:/[\w.-]+)+)`(?!\])")
SHOWN = "source"
"""The book's folder of pages that show files."""


@dataclass
class Linker:
    """Rewrite the links of pages, and collect the files that need a page.

    Parameters
    ----------
    root : Path
        The repository.
    pages : collection of str
        Paths relative to the repository's root of the book's pages, and of the files beside them.
    """

    root: Path
    pages: Collection[str]
    shown: set[str] = field(default_factory=set)

    def rewrite(self, text: str, page: str) -> str:
        """Return the Markdown of a page with its links rewritten for the book."""
        return outside_code(text, lambda prose: NAMED.sub(self._name(page), LINK.sub(self._link(page), prose)))

    def _link(self, page: str) -> Callable[[re.Match[str]], str]:
        def replaced(found: re.Match[str]) -> str:
            target, hash_, anchor = found["target"].partition("#")
            if not target or "://" in target or target.startswith("mailto:"):
                return found[0]
            path = os.path.normpath(PurePosixPath(page).parent / target)
            if path in self.pages:
                return found[0]
            return f"{found['image']}[{found['text']}]({self._show(path, page)}{hash_}{anchor})"

        return replaced

    def _name(self, page: str) -> Callable[[re.Match[str]], str]:
        def replaced(found: re.Match[str]) -> str:
            path = found["path"]
            if not (self.root / path).is_file() or path.endswith((".ipynb", ".png", ".gif")):
                return found[0]
            where = os.path.relpath(path, PurePosixPath(page).parent) if path in self.pages else self._show(path, page)
            return f"[`{path}`]({where})"

        return replaced

    def _show(self, path: str, page: str) -> str:
        if not (self.root / path).exists() or path.startswith(".."):
            raise FileNotFoundError(f"{page} links to {path}, which is not in the tree")
        self.shown.add(path)
        return os.path.relpath(shown_at(path, folder=(self.root / path).is_dir()), PurePosixPath(page).parent)


def shown_at(path: str, *, folder: bool = False) -> str:
    """Return the page that shows a file or a folder."""
    return f"{SHOWN}/{path}/index.md" if folder else f"{SHOWN}/{path}.md"


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return a Markdown text with `change` applied to everything outside fenced blocks."""
    done: list[str] = []
    prose: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        found = FENCE.match(line)
        if fence:
            done.append(line)
            if found and found[2].startswith(fence) and line.strip() == found[2]:
                fence = ""
        elif found:
            done += [change("".join(prose)), line]
            prose, fence = [], found[2]
        else:
            prose.append(line)
    return "".join(done) + change("".join(prose))
