"""Links of the prose, which were written for the repository's tree, made to work in the book.

A link to a page of the book stays as it is, since the book keeps the tree's folders. A link to any other file leads to
a page that shows that file, and so does the name of a file in backticks.
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
    """Rewrites the links of pages, and remembers which files they need to be shown.

    Parameters
    ----------
    root : Path
        The repository.
    pages : collection of str
        Paths of the files that are pages of the book, or lie beside them, from the repository's root.
    """

    root: Path
    pages: Collection[str]
    shown: set[str] = field(default_factory=set)

    def rewrite(self, text: str, page: str) -> str:
        """Return the Markdown of a page with its links made to work in the book."""
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
    """Return a Markdown text with what stands outside its fenced blocks changed."""
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
