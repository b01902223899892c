"""Gather the book's sources: pages, notebooks with their stored outputs, pictures, reference and code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import nbformat

from tools.book.diagrams import Diagrams
from tools.book.links import FENCE, Linker, shown_at
from tools.book.reference import pages as reference_pages

BOOK = "docs/book"
"""The folder of files that only the book needs: its first page, its settings and its style."""

FIRST_DOCS = [
    "course",
    "commands",
    "architecture",
    "mesh",
    "metrics",
    "tracing",
    "views",
    "containers",
    "kubernetes",
    "hub",
    "installing",
]
"""Pages that come first, in this order. Others follow by name."""

SEPARATE_DOCS = ["cheatsheet", "glossary"]
"""Pages of the docs that appear in another part of the book."""

NOTEBOOK_LINK = re.compile(r'(?<=href=")((?:\.\./)*(?:build/)?\d[\w-]*)\.ipynb(?=")')
"""The address of a notebook in a saved output, which is a page in the book."""

OTHER_PAGES = ["datasets/README.md", "docs/trials/README.md"]
LANGUAGES = {
    ".py": "python",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".js": "javascript",
    ".properties": "properties",
    ".sh": "bash",
    "Dockerfile": "docker",
}


def write_sources(root: Path, target: Path) -> list[str]:
    """Write the book's sources.

    Parameters
    ----------
    root : Path
        The repository.
    target : Path
        The target folder. Its previous content is removed.

    Returns
    -------
    list of str
        The pages, as paths relative to that folder.
    """
    shutil.rmtree(target, ignore_errors=True)
    course, track = notebooks_in(root, "notebooks"), notebooks_in(root, "notebooks/build")
    notebooks = [*course, *track]
    docs = [*(path.relative_to(root).as_posix() for path in sorted((root / "docs").glob("*.md"))), *OTHER_PAGES]
    pictures = [path.relative_to(root).as_posix() for path in sorted((root / "docs" / "images").iterdir())]
    linker, diagrams = Linker(root, {*notebooks, *docs, *pictures}), Diagrams(root / "build" / "diagrams")
    reference = reference_pages(root)
    for path in docs:
        write_file(target / path, markdown((root / path).read_text(encoding="utf-8"), path, linker, diagrams))
    for path in notebooks:
        write_file(target / path, notebook(root / path, path, linker, diagrams))
    for path in pictures:
        write_file(target / path, (root / path).read_bytes())
    for path, text in reference.items():
        write_file(target / path, linker.rewrite(text, path))
    for path, svg in diagrams.pictures.items():
        write_file(target / path, svg)
    shown = [write_file_page(root, path, target) for path in expand_folders(root, linker.shown)]
    write_file(target / "index.md", first_page(root, course, track, docs, list(reference)))
    shutil.copytree(root / BOOK, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("index.md", "__pycache__"))
    return ["index.md", *notebooks, *docs, *reference, *shown]


def notebooks_in(root: Path, folder: str) -> list[str]:
    """Return the notebooks of a folder, as paths relative to the repository."""
    return sorted(path.relative_to(root).as_posix() for path in (root / folder).glob("*.ipynb"))


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, and create its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def markdown(text: str, page: str, linker: Linker, diagrams: Diagrams) -> str:
    """Return a page's Markdown for the book."""
    return linker.rewrite(diagrams.replace(text, "../" * page.count("/")), page)


def notebook(path: Path, page: str, linker: Linker, diagrams: Diagrams) -> str:
    """Return a notebook for the book, with rewritten links, rendered diagrams, and alt texts for MyST-NB."""
    found = nbformat.read(path, as_version=4)
    found.metadata.language_info["pygments_lexer"] = "ipython3"  # IPython's `!` and `%` are not Python
    for cell in found.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(cell.source, page, linker, diagrams)
            continue
        if texts := alt_texts(cell):
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts)}}
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = NOTEBOOK_LINK.sub(r"\1.html", output.data["text/html"])
    return str(nbformat.writes(found))


def alt_texts(cell: nbformat.NotebookNode) -> list[str]:
    """Return the alt texts of a cell's pictures."""
    outputs = [output for output in cell.outputs if output.output_type in ("display_data", "execute_result")]
    return [texts["alt"] for output in outputs for texts in output.metadata.values() if "alt" in texts]


def expand_folders(root: Path, shown: set[str]) -> list[str]:
    """Return these files and folders, and the files in the folders."""
    within = {path for folder in shown if (root / folder).is_dir() for path in files_of(root, folder)}
    return sorted(shown | within)


def files_of(root: Path, folder: str) -> list[str]:
    """Return the files of a folder that belong to the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        return sorted(listed.stdout.split())
    found = (path.relative_to(root) for path in (root / folder).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if "__pycache__" not in path.parts)


def write_file_page(root: Path, path: str, target: Path) -> str:
    """Write the page that shows a file or lists a folder, and return the page's path."""
    folder = (root / path).is_dir()
    page = shown_at(path, folder=folder)
    if folder:
        names = [name for name in files_of(root, path) if (root / name).stat().st_size]
        body = "\n".join(f"- [`{name.removeprefix(path + '/')}`]({name.removeprefix(path + '/')}.md)" for name in names)
    else:
        body = fenced(
            (root / path).read_text(encoding="utf-8"), LANGUAGES.get(Path(path).suffix or Path(path).name, "text")
        )
    write_file(target / page, f"---\norphan: true\n---\n\n# `{path}`\n\n{body}\n")
    return page


def fenced(text: str, language: str) -> str:
    """Return a text as a fenced block, with a fence longer than any in the text."""
    longest = max((len(found[2]) for line in text.splitlines() if (found := FENCE.match(line))), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def first_page(root: Path, course: list[str], track: list[str], docs: list[str], reference: list[str]) -> str:
    """Return the first page: its text, and the table of contents of the whole book."""
    known = [f"docs/{name}.md" for name in FIRST_DOCS]
    separate = [f"docs/{name}.md" for name in SEPARATE_DOCS if f"docs/{name}.md" in docs]
    rest = [path for path in docs if path not in known and path not in separate]
    parts = {
        "The course": course,
        "The build track": track,
        "At hand": separate,
        "Reference": reference,
        "The lab": [*(path for path in known if path in docs), *rest],
    }
    trees = [toctree(caption, paths) for caption, paths in parts.items()]
    return (root / BOOK / "index.md").read_text(encoding="utf-8") + "\n" + "\n\n".join(trees) + "\n"


def toctree(caption: str, paths: list[str]) -> str:
    """Return a part of the table of contents."""
    return "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *paths, "```"])
