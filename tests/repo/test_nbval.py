"""`pytest --nbval` compares notebooks strictly, and ignores only ids and times."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.scratch_folder import scratch_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("order 0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a", "order UUID"),
        ("at 2026-11-22T17:31:02.123456Z", "at TIME"),
        ("at 2026-11-22 17:31:02+00:00.", "at TIME."),
        ("2026-11-22T17:31:02.5+01:00|x", "TIME|x"),
        ("3 outbox rows, order-1, offset 17, 2026-11-22", "3 outbox rows, order-1, offset 17, 2026-11-22"),
        ("12:30:01", "12:30:01"),
        ("Overwriting work/loyalty.py", "Writing work/loyalty.py"),
    ],
)
def test_sanitizer_hides_only_ids_and_times(text: str, stays: str) -> None:
    """The nbval sanitizer hides UUIDs, RFC 3339 times and whether a file existed, and nothing else."""
    sanitizer = configparser.RawConfigParser()
    assert sanitizer.read(ROOT / "tests" / "nbval_sanitize.cfg")
    for section in sanitizer.sections():
        text = re.sub(sanitizer[section]["regex"], sanitizer[section]["replace"], text)
    assert text == stays


def run_nbval(notebook: Path, cell: nbformat.NotebookNode) -> subprocess.CompletedProcess[str]:
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    # Under notebooks/ pytest finds its configuration by itself; this notebook is outside the project, so name it.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", "-p", "conftest"]
    command += ["--nbval", str(notebook)]
    # The notebook fails on purpose; that must not count as a failure of the suite.
    environment = {name: value for name, value in os.environ.items() if name != "SAGA_LAB_FAILURES"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("fact", "passes"), [("3 rows", True), ("4 rows", False)])
def test_nbval_needs_no_flags(tmp_path: Path, fact: str, passes: bool) -> None:
    """With the project's settings alone, different ids and times pass, and a different fact fails."""
    cell = nbformat.v4.new_code_cell(
        "import datetime, uuid\nprint('3 rows', uuid.uuid4(), datetime.datetime.now(datetime.UTC).isoformat())",
        execution_count=1,
        outputs=[
            nbformat.v4.new_output(
                "stream",
                name="stdout",
                text=f"{fact} 0199d2c4-7a30-7c3e-8f4e-3f1c2b9d8e7a 2026-11-22T17:31:02.123456+00:00\n",
            )
        ],
    )
    run = run_nbval(tmp_path / "one.ipynb", cell)
    assert run.returncode == (0 if passes else 1), run.stdout + run.stderr
    assert ("1 passed" if passes else "1 failed") in run.stdout
    assert passes or "mismatch 'stdout'" in run.stdout


def test_unexpected_stderr_is_shown(tmp_path: Path) -> None:
    """A cell that writes to stderr fails, and the report shows its output."""
    cell = nbformat.v4.new_code_cell(
        "import sys\nprint('kafka shows no', 'metrics', file=sys.stderr)", execution_count=1
    )
    run = run_nbval(tmp_path / "one.ipynb", cell)
    assert run.returncode == 1
    assert "kafka shows no metrics" in run.stdout


def test_a_notebook_runs_without_the_files_of_a_learner(tmp_path: Path) -> None:
    """A learner's file in `work` is neither seen nor overwritten, and the files beside the notebook are there."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "loyalty.py").write_text("mine", encoding="utf-8")
    source = (
        "from pathlib import Path\nPath('work').mkdir()\nPath('work/loyalty.py').write_text('a stub')\n"
        "print(Path('one.ipynb').exists())"
    )
    output = nbformat.v4.new_output("stream", name="stdout", text="True\n")
    run = run_nbval(tmp_path / "one.ipynb", nbformat.v4.new_code_cell(source, execution_count=1, outputs=[output]))
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "work" / "loyalty.py").read_text(encoding="utf-8") == "mine"


def test_a_notebook_in_a_folder_keeps_its_place_among_the_others(tmp_path: Path) -> None:
    """A notebook of the build track reaches those of the course by the same relative path, and no `work` of either."""
    for folder in ("build/work", "work"):
        (tmp_path / "notebooks" / folder).mkdir(parents=True)
    for name in ("00-start.ipynb", "build/1-outbox.ipynb"):
        (tmp_path / "notebooks" / name).touch()
    with scratch_folder(tmp_path / "notebooks" / "build") as scratch:
        assert [path.name for path in scratch.iterdir()] == ["1-outbox.ipynb"]
        assert sorted(path.name for path in (scratch / "..").iterdir()) == ["00-start.ipynb", "build"]
    assert not scratch.exists()
    assert (tmp_path / "notebooks" / "build" / "1-outbox.ipynb").exists()


def test_nbval_finds_every_notebook() -> None:
    """`pytest --nbval notebooks/` collects each notebook of the course, the build track and the instructor's."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "--nbval", "notebooks"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    found = {line.partition("::")[0] for line in collected.splitlines() if "::" in line}
    notebooks = (path.relative_to(ROOT) for path in (ROOT / "notebooks").rglob("*.ipynb"))
    assert found == {path.as_posix() for path in notebooks if not {"work", ".ipynb_checkpoints"} & set(path.parts)}
