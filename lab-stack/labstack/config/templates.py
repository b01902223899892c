"""Replace each ``${NAME}`` in a component's configuration; every other ``${...}`` is left to the component."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from labstack.config.paths import write_atomically
from labstack.errors import LabError


def fill(template: Path, values: dict[str, object]) -> str:
    """Return the text of `template` with the lab's values filled in.

    Raises
    ------
    LabError
        `values` has no value for a ``${CAPITAL_NAME}`` of the template.
    """
    text = template.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    unknown = set(re.findall(r"\$\{([A-Z][A-Z_]*)\}", "\n".join(lines))) - set(values)
    if unknown:
        raise LabError(
            f"{template} uses ${{{min(unknown)}}}, which the lab does not define.",
            next_step=f"use one of {', '.join(sorted(values))}",
        )
    return Template(text).safe_substitute({name: str(value) for name, value in values.items()})


def fill_into(template: Path, target: Path, values: dict[str, object]) -> Path:
    """Write the filled-in `template` to `target`, and return `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, fill(template, values))
    return target
