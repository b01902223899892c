"""Build the book, the course as a site: python tools/make_book.py [OUTPUT]

The pages are made from the notebooks as they are saved, from docs/ and from the code; nothing is executed, nothing is
fetched, and a warning is an error. OUTPUT is `build/book`, unless told otherwise; open its index.html.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.book.gather import write_sources

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "build" / "book"


def build(output: Path) -> int:
    """Build the book into a folder, which is emptied first. Return Sphinx's exit status."""
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="saga-lab-book-") as folder:
        sources = Path(folder) / "sources"
        write_sources(ROOT, sources)
        sphinx = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
        return subprocess.run([*sphinx, "--doctree-dir", f"{folder}/doctrees", sources, output], cwd=ROOT).returncode


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT, help="default: build/book")
    output = parser.parse_args().output
    status = build(output)
    print(f"The book is in {output}: open index.html." if status == 0 else "The book has faults, as told above.")
    return status


if __name__ == "__main__":
    sys.exit(main())
