"""The check before anything is applied: schema, Istio's own rules, and what the documents say of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from labstack.mesh.documents import Document
from labstack.mesh.errors import InvalidMesh, Problem
from labstack.mesh.references import check_references, duplicates
from labstack.mesh.registry import Registry
from labstack.mesh.rules import check_rules
from labstack.mesh.schema import KINDS, check_schema
from labstack.mesh.words import closest


@dataclass
class Checked:
    """What a check found.

    Parameters
    ----------
    problems : list of Problem
        What keeps the documents from being applied.
    broken : list of Problem
        Those of `problems` that are only references to what isn't there: Istio takes them, and requests fail.
    warnings : list of Problem
        What Istio takes, and what will probably not do what its writer wants.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check(new: Sequence[Document], in_force: Sequence[Document] = ()) -> Checked:
    """Check documents that are to be applied, together with those in force.

    Parameters
    ----------
    new : sequence of Document
        What is to be applied; each takes the place of the one in force with its kind, namespace and name.
    in_force : sequence of Document, optional
        What is applied already. It may have faults of its own, which are no matter here; a reference of it that `new`
        breaks (a subset taken away, say) is.
    """
    checked = Checked(duplicates(new))
    sound, unsound = [], []
    for document in new:
        if wrong := check_schema(document):
            checked.problems += wrong
            unsound.append(_as_meant(document))
            continue
        sound.append(document)
        findings = check_rules(document)
        checked.problems += findings.problems
        checked.warnings += findings.warnings
    replaced = {_key(document) for document in new}
    kept = [document for document in in_force if _key(document) not in replaced]
    registry, before = Registry([*kept, *sound, *unsound], unsound), Registry(in_force)
    for document in sound:
        findings = check_references(document, registry)
        checked.broken += findings.problems
        checked.warnings += findings.warnings
    for document in kept:
        if not check_schema(document):
            already = check_references(document, before).problems
            now = check_references(document, registry).problems
            checked.broken += [problem for problem in now if problem not in already]
    checked.problems += checked.broken
    for problems in (checked.problems, checked.broken, checked.warnings):
        problems.sort(key=lambda problem: (problem.file, problem.line))
    return checked


def require_valid(new: Sequence[Document], in_force: Sequence[Document] = (), *, force: bool = False) -> list[Problem]:
    """Return the warnings of `check`, where nothing is wrong.

    Parameters
    ----------
    new, in_force : sequence of Document
        As `check` takes them.
    force : bool
        Let references to what isn't there pass, as warnings.

    Raises
    ------
    InvalidMesh
        Something is wrong; the error has each problem with its file, line and field.
    """
    checked = check(new, in_force)
    problems = [problem for problem in checked.problems if not force or problem not in checked.broken]
    if not problems:
        return sorted([*checked.broken, *checked.warnings], key=lambda problem: (problem.file, problem.line))
    count = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
    only_broken = all(problem in checked.broken for problem in problems)
    force_hint = ", or use force (--force) to see what a broken reference does" if only_broken else ""
    raise InvalidMesh(
        f"{count} wrong with the configuration; what was in force still is.",
        problems=problems,
        next_step=f"mend {problems[0].file} line {problems[0].line}{force_hint}",
    )


def _as_meant(document: Document) -> Document:
    meant = closest(document.kind, KINDS)
    return replace(document, data={**document.data, "kind": meant}) if meant else document


def _key(document: Document) -> tuple[str, str, str]:
    return (document.kind, document.namespace, document.name)
