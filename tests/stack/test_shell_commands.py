"""`lab status --watch`, `lab logs -f`, `lab psql`, completion, help and errors, run from a shell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner
from rich.table import Table

from labstack.backends.processes.following import follow
from labstack.cli import SECTIONS, main, printing
from labstack.cli.printing import console
from tests.stack.labs import LabHarness


def test_log_is_followed_when_another_file_replaces_it(tmp_path: Path) -> None:
    """Following a log returns only new lines, even after another file replaces the log."""
    log = tmp_path / "order.log"
    log.write_text("before\n")
    lines = follow(log)
    with log.open("a") as file:
        file.write("first\n")
    assert next(lines) == "first"
    log.replace(tmp_path / "order.log.1")
    log.write_text("second\nthird\n")
    assert [next(lines), next(lines)] == ["second", "third"]
    log.replace(tmp_path / "order.log.2")
    log.write_text("fourth\n")
    assert next(lines) == "fourth"


@contextmanager
def run_until_interrupted(shared: LabHarness, *words: str) -> Iterator[IO[str]]:
    """Run `lab WORDS` and yield its output; after the block, Ctrl-C must stop it."""
    running = subprocess.Popen(
        shared.command(*words),
        env=shared.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert running.stdout is not None
    try:
        yield running.stdout
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


@pytest.mark.timeout(120)
def test_logs_follow_a_component(shared: LabHarness) -> None:
    """`lab logs -f` prints the last lines, then new lines, until Ctrl-C."""
    with run_until_interrupted(shared, "logs", "shipping", "-n", "1", "-f") as output:
        output.readline()
        shared.lab.restart("shipping")
        assert any("shipping consumes " in line for line in output)


def test_a_log_is_shown_up_to_its_number_of_lines(shared: LabHarness) -> None:
    """`lab logs -n 0` prints no line, and a negative number is rejected."""
    assert shared.run_checked("logs", "kafka", "-n", "0") == ""
    assert len(shared.run_checked("logs", "kafka", "-n", "2").splitlines()) == 2
    refused = shared.run("logs", "kafka", "-n", "-5")
    assert (refused.returncode, "-5 is not in the range x>=0" in refused.stderr) == (2, True)


MARKUP = "[archive] ^/orders/[a-f0-9-]{36}$ [/a-z]+ filter[status]=PAID :smile:"


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    """Brackets and emoji codes in paths, YAML, regular expressions and logs are shown as they are, in every output."""
    table = Table(MARKUP, box=None)
    table.add_row(MARKUP)
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(MARKUP, soft_wrap=True)
        terminal.print(table, width=200)
    assert captured.get().count(MARKUP) == 3
    sources = (Path(printing.__file__).parents[1]).rglob("*.py")
    assert [path.name for path in sources if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))] == [
        "printing.py"
    ]


@pytest.mark.timeout(120)
def test_status_can_be_watched(shared: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lab status --watch` prints the table repeatedly until Ctrl-C."""
    monkeypatch.setitem(shared.environment, "FORCE_COLOR", "1")
    with run_until_interrupted(shared, "status", "--watch") as output:
        seen = 0
        for line in output:
            seen += "order-db" in line
            if seen == 2:
                break
        assert seen == 2


def test_psql_opens_a_services_database(shared: LabHarness) -> None:
    """`lab psql` opens the service's database despite libpq's environment variables, and passes arguments to psql."""
    command = shared.command("psql", "payment", "-At", "-c", "SELECT current_database()")
    elsewhere = {"PGHOST": "203.0.113.1", "PGDATABASE": "nowhere", "PGOPTIONS": "-c search_path=nowhere"}
    done = subprocess.run(command, env={**shared.environment, **elsewhere}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "payment\n"), done.stderr
    assert "did you mean 'payment'?" in shared.run("psql", "paymnt").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_names(shell: str) -> None:
    """The completion script queries `lab` for verbs, components and services."""
    assert "_LAB_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).output

    def completions(*words: str) -> list[str]:
        if shell == "fish":
            variables = {"COMP_WORDS": " ".join(["lab", *words]), "COMP_CWORD": words[-1]}
        else:
            variables = {"COMP_WORDS": " ".join(["lab", *words]), "COMP_CWORD": str(len(words))}
        done = subprocess.run(
            [sys.executable, "-c", "from labstack.cli import main; main(prog_name='lab')"],
            env={**os.environ, **variables, "_LAB_COMPLETE": f"{shell}_complete"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout.replace(",", " ").replace("\n", " ").split()

    assert "status" in completions("stat")
    assert "order-db" in completions("kill", "order-")
    assert "shipping" in completions("psql", "ship")


def test_the_help_lists_every_verb_once_in_a_section() -> None:
    """The help lists every verb in exactly one section, so that users find it."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(main.commands)
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(f"{title}:" in shown for title in SECTIONS)


def test_an_error_under_json_is_json(shared: LabHarness) -> None:
    """With `--json`, an error is a JSON object with message, kind and next step, and the exit status is 1."""
    done = shared.run("install", "--json", "istoid")
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert error["kind"] == "UnknownComponent"
    assert error["next_step"].startswith("did you mean 'istiod'?")
    assert error["error"]


@pytest.mark.parametrize("words", [["stats"], ["kill", "kafca"]], ids=" ".join)
def test_misspelled_name_suggests_the_closest_one(words: list[str], shared: LabHarness) -> None:
    """A misspelled verb or component is rejected with the closest name and a nonzero exit status."""
    done = shared.run(*words)
    assert done.returncode != 0
    assert f"did you mean '{ {'stats': 'status', 'kafca': 'kafka'}[words[-1]] }'?" in done.stdout + done.stderr
