"""Validation before documents are applied: the schema, Istio's own rules, and references between documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh, Problem
from labstack.istio.references import KnownObjects, check_references, duplicates
from labstack.istio.rules import check_rules
from labstack.istio.schema import KINDS, check_schema
from labstack.istio.words import closest


@dataclass
class Checked:
    """The result of a check.

    Parameters
    ----------
    problems : list of Problem
        Problems that prevent the documents from being applied.
    broken : list of Problem
        Those of `problems` that are only references to missing objects. Istio accepts them, and requests fail.
    warnings : list of Problem
        Configuration that Istio accepts but that probably does not do what its author intends.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check(new: Sequence[Document], in_force: Sequence[Document] = ()) -> Checked:
    """Check documents before they are applied, together with the documents in force.

    Parameters
    ----------
    new : sequence of Document
        Documents to apply. Each replaces the document in force with the same kind, namespace and name.
    in_force : sequence of Document, optional
        Documents that are already applied. Their existing problems are ignored, but a reference that `new` breaks (for
        example by removing a subset) is reported.
    """
    checked = Checked(duplicates(new))
    valid, invalid = [], []
    for document in new:
        if wrong := check_schema(document):
            checked.problems += wrong
            invalid.append(_with_corrected_kind(document))
            continue
        valid.append(document)
        findings = check_rules(document)
        checked.problems += findings.problems
        checked.warnings += findings.warnings
    replaced = {_key(document) for document in new}
    kept = [document for document in in_force if _key(document) not in replaced]
    known, before = KnownObjects([*kept, *valid, *invalid], invalid), KnownObjects(in_force)
    for document in valid:
        findings = check_references(document, known)
        checked.broken += findings.problems
        checked.warnings += findings.warnings
    for document in kept:
        if not check_schema(document):
            already = check_references(document, before).problems
            now = check_references(document, known).problems
            checked.broken += [problem for problem in now if problem not in already]
    checked.problems += checked.broken
    for problems in (checked.problems, checked.broken, checked.warnings):
        problems.sort(key=lambda problem: (problem.file, problem.line))
    return checked


def require_valid(new: Sequence[Document], in_force: Sequence[Document] = (), *, force: bool = False) -> list[Problem]:
    """Return the warnings of `check`, or raise an error if it finds problems.

    Parameters
    ----------
    new, in_force : sequence of Document
        As for `check`.
    force : bool
        Treat references to missing objects as warnings.

    Raises
    ------
    InvalidMesh
        The check found problems. The error lists each with its file, line and field.
    """
    checked = check(new, in_force)
    problems = [problem for problem in checked.problems if not force or problem not in checked.broken]
    if not problems:
        return sorted([*checked.broken, *checked.warnings], key=lambda problem: (problem.file, problem.line))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    only_broken = all(problem in checked.broken for problem in problems)
    force_hint = ", or use force (--force) to see the effect of a broken reference" if only_broken else ""
    raise InvalidMesh(
        f"The configuration has {count}; the active configuration is unchanged.",
        problems=problems,
        next_step=f"fix line {problems[0].line} of {problems[0].file}{force_hint}",
    )


def _with_corrected_kind(document: Document) -> Document:
    meant = closest(document.kind, KINDS)
    return replace(document, data={**document.data, "kind": meant}) if meant else document


def _key(document: Document) -> tuple[str, str, str]:
    return (document.kind, document.namespace, document.name)
