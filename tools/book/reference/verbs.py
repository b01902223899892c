"""The page of the `lab` command: every verb with its arguments and options, from click."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from labstack.cli import main
from tools.book.reference.markdown import anchor, join, table

OPENING = """
# The `lab` command

Every verb of the `lab` command. `lab --help` and `lab VERB --help` say the same in a terminal.
With `--json`, standard output holds JSON only. Exit status 0 means done; 1 means that it could not be done, or that
what was asked about is not so, and standard error says why; 2 means that the command was written wrongly.
"""


def page(root: Path) -> str:
    """Return the page."""
    top = click.Context(main, info_name="lab")
    overview = [(f"[`{name}`](#{tag(name)})", short(command)) for name, command in commands(main, "lab")]
    parts = [part for name, command in commands(main, "lab") for part in section(name, command, top)]
    return join(OPENING, options(main, top), table(["verb", "what it does"], overview), *parts)


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every executable command below a group, with its full name."""
    for word, command in sorted(group.commands.items()):
        full = f"{name} {word}"
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield full, command
            yield from commands(command, full)
        else:
            yield full, command


def section(name: str, command: click.Command, top: click.Context) -> list[str]:
    """Return the section of one verb."""
    context = click.Context(command, parent=top, info_name=name.removeprefix("lab "))
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    return [anchor(tag(name)), f"## `{name}`", help_of(command), f"```text\n{usage}\n```", options(command, context)]


def options(command: click.Command, context: click.Context) -> str:
    """Return the table of a verb's options; empty if it has only --help."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [(f"`{flags}`", words) for flags, words in filter(None, records) if "--help" not in flags]
    return table(["option", ""], rows) if rows else ""


def help_of(command: click.Command) -> str:
    """Return a command's help, with each paragraph on one line."""
    paragraphs = (command.help or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def short(command: click.Command) -> str:
    """Return the first paragraph of a command's help."""
    return help_of(command).split("\n\n")[0]


def tag(name: str) -> str:
    """Return the link target of a verb."""
    return name.replace(" ", "-")
