"""The list of mutants that may survive, each with a reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("survivors.toml")


@dataclass(frozen=True, order=True)
class Mutant:
    """One kind of bug in one line of code.

    Attributes
    ----------
    module
        Path of the module.
    operator
        The mutation operator of cosmic-ray.
    code
        The original line, without its indentation.
    """

    module: str
    operator: str
    code: str

    def __str__(self) -> str:
        return f"{self.module}: {self.operator} in `{self.code}`"


def accepted() -> dict[Mutant, str]:
    """Return the reason of each mutant that may survive."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))["survivor"]
    return {
        Mutant(one["module"], operator, one["code"]): one["reason"] for one in entries for operator in one["operators"]
    }
