"""Every `lab` command, with unknown names, empty and absurd values, answers with a message and a next step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from labstack.cli import main

WORDS = ("", " ", "no such thing", "ordr", "-5", "nan", "1e400", "é\n", "a\x00b", "../../x", "[", "a" * 5_000, "\udcff")
"""Values that name nothing, or that are too large for anything."""

NEEDS_DOCKER = ("images", "sweep")


def commands(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name), command


def invocations(command: click.Command) -> Iterator[list[str]]:
    """Yield arguments in which each parameter that takes a value has every odd value once."""
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    for word in WORDS:
        for index, _ in enumerate(arguments):
            values = ["ordr"] * len(arguments)
            values[index] = word
            yield ["--", *values]
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                yield [option.opts[0], word, "--", *["ordr"] * len(arguments)]


def run(words: list[str]) -> Result:
    return CliRunner().invoke(main, words)


def complaint(done: Result) -> str:
    """Return the problem of a command's answer, or an empty text."""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {str(done.exception)[:200]}"
    if done.exit_code == 1 and "Next step:" not in done.stderr:
        return f"no next step: {done.stderr[:200]!r}"
    return "" if done.exit_code in (0, 1) or "Error: " in done.stderr else f"status {done.exit_code}"


@pytest.fixture(autouse=True)
def _stopped_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LAB_NAME", "odd")
    monkeypatch.delenv("LAB_MODE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.timeout(180)
def test_every_command_answers_odd_values_with_a_next_step() -> None:
    """No command fails with a traceback or without a next step, whatever its arguments and options."""
    found, count = [], 0
    for words, command in commands(main):
        if words[0] in NEEDS_DOCKER:
            continue
        for rest in invocations(command):
            count += 1
            if wrong := complaint(run([*words, *rest])):
                found.append(f"lab {' '.join(words)} {rest!r:.120}: {wrong}")
    assert not found, "\n".join(found)
    assert count > 300


def test_global_options_answer_odd_values_with_a_next_step() -> None:
    """An odd name of a lab or an unknown mode is answered with a next step."""
    for option in ("--name", "--mode"):
        for word in WORDS:
            assert complaint(run([option, word, "status"])) == "", (option, word)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("stauts", "status"),
        ("mesh rotues", "routes"),
        ("dead-letters lits", "list"),
        ("stop kafak", "kafka"),
        ("install promethues", "prometheus"),
        ("scenario show card-declned", "card-declined"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_closest(words: str, meant: str) -> None:
    """A misspelt command or name is answered with the closest one, also in a group of commands."""
    done = run(words.split())
    assert done.exit_code in (1, 2)
    assert f"did you mean {meant!r}?" in done.stderr
