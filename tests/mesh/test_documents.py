"""YAML text is loaded into documents that know their lines, within limits."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labstack.errors import LabError
from labstack.istio import yaml_text
from labstack.istio.check import check
from labstack.istio.documents import Document, field_path, load, read, resources
from labstack.istio.errors import InvalidMesh, InvalidYaml, MeshError, Problem
from labstack.istio.translate import translate
from tests.mesh.typos import VALID, YAML, Slip, slipped
from tests.services.luck import LONG as MORE

CASES = sorted((Path(__file__).parent / "cases").glob("*/input.yaml"))
KUBECTL = """
apiVersion: v1
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata:
    creationTimestamp: "2026-03-01T10:00:00Z"
    generation: 2
    name: order
    namespace: default
    resourceVersion: "1234"
    uid: 0d6ac1c9-73a3-4bd5-8e8f-1c1a7a6f8f31
    managedFields:
    - {apiVersion: networking.istio.io/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {}}, manager: kubectl}
  spec:
    hosts: ["*"]
    gateways: [lab-gateway]
    http: [{route: [{destination: {host: order}}]}]
  status: {observedGeneration: "2"}
kind: List
metadata: {resourceVersion: ""}
"""
SECONDS = 20.0  # far above the usual time, for busy machines
HEAD = "apiVersion: v1\nkind: Any\nmetadata: {name: a}\nspec:\n"


def spec(text: str) -> Any:
    """Load one YAML value in a document's spec, and return it."""
    (document,) = load(f"{HEAD}  it: {text}\n")
    return document.spec["it"]


def problem_of(text: str) -> Problem:
    """Return the one problem that loading `text` raises."""
    with pytest.raises(InvalidYaml) as caught:
        load(text)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.parent.name)
def test_every_key_and_item_has_its_line(case: Path) -> None:
    """The line that a document reports for a key is a line of the file that contains the key."""
    lines = case.read_text(encoding="utf-8").split("\n")
    documents = read(case)
    for document in documents:
        for path, line in document.lines.items():
            if path and isinstance(path[-1], str):
                assert re.search(rf"{re.escape(path[-1])}['\"]?:", lines[line - 1]), (path, line)
    assert sum(len(document.lines) for document in documents) > 10 or not documents


def test_document_has_kind_version_name_namespace_and_spec() -> None:
    """A document has a kind, apiVersion, name, namespace and spec, and its namespace defaults to `default`."""
    (document,) = load(HEAD + "  b: [1]\n", "my.yaml")
    assert (document.kind, document.api_version, document.name) == ("Any", "v1", "a")
    assert (document.namespace, document.spec, document.file) == ("default", {"b": [1]}, "my.yaml")


def test_missing_field_has_the_line_of_its_nearest_ancestor() -> None:
    """The line of a missing path is the line of its nearest ancestor."""
    (document,) = load(HEAD + "  b:\n  - c: 1\n")
    assert document.line("spec", "b", 0, "d", "e") == 6
    assert document.line("spec", "b", 7) == 5
    assert document.line("status") == 1


def test_empty_documents_are_skipped() -> None:
    """Separators, comments and empty text produce no documents."""
    assert load("") == []
    assert load("---\n# nothing\n---\n...\n") == []
    assert [document.name for document in load(f"---\n{HEAD}---\n---\n{HEAD}")] == ["a", "a"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("n", False),
        ("on", True),
        ("~", None),
        ("", None),
        ("80", 80),
        ("80.0", 80),
        ("1e3", 1000),
        ("0.5", 0.5),
        ("010", 8),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("-3", -3),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("4s", "4s"),
        ("'80'", "80"),
        ('"yes"', "yes"),
        ("!!str 80", "80"),
        ("!!float 80", 80),
        ("18446744073709551615", 2**64 - 1),
        ("08", 8),
    ],
)
def test_scalars_have_the_values_that_kubernetes_reads(text: str, value: object) -> None:
    """A scalar has the value that Kubernetes and istiod read, which sometimes differs from PyYAML's value."""
    found = spec(text)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "!!int x", "!!binary aGk=", "!mine 1", "!!set {a}"])
def test_non_finite_numbers_and_unsupported_tags_are_rejected(text: str) -> None:
    """Non-finite numbers and unsupported tags are rejected with their line."""
    assert problem_of(f"{HEAD}  it: {text}\n").line == 5


def test_keys_become_strings_as_in_json() -> None:
    """A key that YAML reads as a number or a boolean becomes the text that JSON would use."""
    (document,) = load(f"{HEAD}  1: a\n  yes: b\n")
    assert document.spec == {"1": "a", "true": "b"}
    assert "a field name" in problem_of(f"{HEAD}  [a]: b\n").message


def test_aliases_and_merges_are_expanded() -> None:
    """An alias expands to its anchor with the anchor's lines, and explicit keys override `<<`."""
    (document,) = load(f"{HEAD}  one: &one {{a: 1, b: 2}}\n  two: *one\n  three: {{<<: *one, b: 3}}\n")
    assert document.spec["two"] == {"a": 1, "b": 2}
    assert document.spec["three"] == {"a": 1, "b": 3}
    assert document.line("spec", "two") == 6
    assert document.line("spec", "two", "a") == 5


def test_an_alias_refers_to_the_last_anchor_of_its_name() -> None:
    """An anchor can be defined again, as YAML 1.2.2, section 3.2.2.2, allows; an alias refers to the last one."""
    (document,) = load(f"{HEAD}  one: &a {{x: 1}}\n  two: &a {{x: 2}}\n  three: *a\n")
    assert document.spec["three"] == {"x": 2}


def yaml_bomb(levels: int) -> str:
    """Return a text of a few hundred bytes that expands to 9 to the power of `levels` values."""
    names = "abcdefghijklmnop"[:levels]
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (yaml_bomb(12), "aliases expand to more than"),
        ("a: &a [x]\n" + "b: {" + ", ".join(f"k{n}: *a" for n in range(30_000)) + "}", "aliases expand to more than"),
        ("a: &a [*a]", "no anchor `&a` that ends before it"),
        ("[" * 1_000_000, "nested more than"),
        ("{a: " * 100_000, "nested more than"),
        ("- " * 500_000, "nested more than"),
        ("? " * 500_000, "nested more than"),
        ("".join(f"k{n}: v\n" for n in range(100_000)) + "k1: v\n", "occurs twice"),
        ("- 1\n" * 900_000, "more than 300,000 values"),
        ("'" + "a" * 1_000_000, "never closed"),
    ],
    ids=lambda text: text[:12],
)
def test_excessive_yaml_is_rejected_quickly(text: str, message: str) -> None:
    """A YAML bomb, deep nesting and an endless list are rejected quickly, with a message."""
    began = time.monotonic()
    assert message in problem_of(text).message
    assert time.monotonic() - began < SECONDS


def test_aliases_cannot_exceed_the_depth_limit() -> None:
    """Aliases can't exceed the depth limit."""
    lines = ["a0: &a0 [1]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 80)]
    assert "nests more than" in problem_of("\n".join(lines)).message


def test_text_of_one_megabyte_is_loaded_completely() -> None:
    """A text of one megabyte with thousands of valid documents is loaded completely within seconds."""
    text = "\n---\n".join([VALID] * (2**20 // len(VALID)))
    began = time.monotonic()
    documents = load(text)
    assert len(documents) == 5 * (2**20 // len(VALID))
    assert documents[-1].line("spec") == text.count("\n") - VALID[VALID.rindex("spec:") :].count("\n") + 1
    assert time.monotonic() - began < SECONDS


def test_text_or_file_above_the_size_limit_is_rejected(tmp_path: Path) -> None:
    """A text or file above the limit is rejected with its size, before it is parsed."""
    text = "# " + "x" * yaml_text.SIZE_LIMIT
    with pytest.raises(InvalidYaml, match=f"{len(text):,} bytes"):
        load(text)
    (tmp_path / "big.yaml").write_text(text)
    with pytest.raises(InvalidYaml, match=f"more than {yaml_text.SIZE_LIMIT:,} bytes"):
        read(tmp_path / "big.yaml")


@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """An endless device, a pipe without a writer and a folder are rejected at once, with a next step."""
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(InvalidYaml, match=r"not a regular file.*\n.*or - and a pipe"):
            read(path)


def test_input_without_a_resource_is_rejected(tmp_path: Path) -> None:
    """Text, a file or a list without any resource is rejected, and so is a path that was given as text."""
    (tmp_path / "empty.yaml").write_text("---\n# nothing\n")
    for source in ("", "---\n", "kind: List\nitems: []\n", tmp_path / "empty.yaml"):
        with pytest.raises(InvalidYaml, match="contains no resource"):
            resources(source)
    with pytest.raises(InvalidYaml, match=r"write Path\('routes/order.yaml'\)"):
        resources("routes/order.yaml")


def test_the_items_of_a_list_are_documents_with_their_lines() -> None:
    """The output of `kubectl get -o yaml` is the resources in it, each with its lines and a cluster's own fields."""
    (document,) = load(KUBECTL)
    assert (document.kind, document.name) == ("VirtualService", "order")
    lines = KUBECTL.splitlines()
    assert "gateways" in lines[document.line("spec", "gateways") - 1]
    assert "apiVersion" in lines[document.line() - 1]
    checked = check([*load(VALID.replace("name: order", "name: other", 1)), document])
    assert not [problem for problem in checked.problems if "metadata" in problem.field or "status" in problem.field]
    assert translate([document]).routes == []
    with pytest.raises(InvalidYaml, match="<text>:3: expected an object"):
        load("kind: List\nitems:\n- 5\n")


@pytest.mark.parametrize("slip", YAML, ids=lambda slip: slip.new[:40])
def test_yaml_slip_is_reported_with_its_line_and_cause(slip: Slip) -> None:
    """A slip in YAML syntax or in a document's head is reported with its line, its field and the cause."""
    text, line = slipped(slip)
    with pytest.raises(InvalidYaml) as caught:
        check_all(text)
    found = [(problem.line, problem.field) for problem in caught.value.problems if slip.message in problem.message]
    assert (line, slip.field) in found, str(caught.value)


def check_all(text: str) -> None:
    """Load and check a text; either step may report a problem in the head of a document."""
    problems = check(load(text)).problems
    if problems:
        raise InvalidYaml("the check says no", problems=problems)


def test_documents_that_are_not_objects_are_reported() -> None:
    """A list or a text instead of an object is reported, and so is each field that a head lacks."""
    assert problem_of("- a\n- b").message == "expected an object with apiVersion, kind, metadata and spec, found a list"
    assert problem_of("\n\nhello").line == 3
    with pytest.raises(InvalidYaml) as caught:
        load("a: 1\n---\nkind: [x]\napiVersion: v1\nmetadata: 5\n")
    fields = [(problem.line, problem.field) for problem in caught.value.problems]
    assert fields == [(1, "apiVersion"), (1, "kind"), (1, "metadata"), (3, "kind"), (5, "metadata")]


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not text each have their own message."""
    with pytest.raises(InvalidYaml, match="No such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(InvalidYaml, match="can't be read"):
        read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: b\nc: caf\xe9\n")
    with pytest.raises(InvalidYaml, match=r"latin:2: the byte 0xe9 is not valid UTF-8"):
        read(tmp_path / "latin.yaml", "latin")


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """A byte order mark at the start of a file is ignored."""
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert [document.name for document in read(tmp_path / "bom.yaml")] == ["a"]


def test_error_numbers_at_most_twenty_problems() -> None:
    """An error numbers its problems, shows at most twenty, counts the rest, and ends with a next step."""
    problems = [Problem("f.yaml", number, "spec.a[0]", "bad") for number in range(1, 26)]
    text = str(InvalidMesh("it is bad.", problems=problems, next_step="mend it"))
    assert "1. f.yaml:1: spec.a[0]: bad" in text
    assert "20. f.yaml:20" in text
    assert "21. " not in text
    assert "and 5 more" in text
    assert text.endswith("Next step: mend it")
    assert issubclass(MeshError, LabError)


def test_field_paths_have_dots_brackets_and_quotes() -> None:
    """A path has dots and brackets, and quotes around a key that contains dots."""
    assert field_path(("spec", "http", 0, "match", 1, "headers", "x-a")) == "spec.http[0].match[1].headers.x-a"
    assert field_path(("metadata", "labels", "app.kubernetes.io/name")) == 'metadata.labels["app.kubernetes.io/name"]'


def only_mesh_errors(text: str) -> list[Document]:
    """Load and check a text; let any exception but MeshError through, and fail if it takes too long."""
    began = time.monotonic()
    documents = []
    with suppress(MeshError):
        documents = load(text)
        check(documents, documents)
    assert time.monotonic() - began < SECONDS
    return documents


WORDS = ["a", "kind", "spec", "1", "yes", "x-y", "*a", "&a", "!t", "<<", "|", ">", "'", '"', "# c", "%YAML 1.1", "\t"]
PIECES = st.sampled_from(
    [*WORDS, ": ", ":", "- ", "\n", "\n  ", "\n    ", ", ", "[", "]", "{", "}", "---\n", "...\n", "? "]
)


@given(st.binary(max_size=400))
@settings(max_examples=50 * MORE, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_raise_only_mesh_errors(tmp_path: Path, raw: bytes) -> None:
    """Reading random bytes returns documents or raises a MeshError."""
    (tmp_path / "any.yaml").write_bytes(raw)
    with suppress(MeshError):
        read(tmp_path / "any.yaml")


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=100 * MORE)
def test_random_yaml_raises_only_mesh_errors(text: str) -> None:
    """Loading random YAML tokens returns documents or raises a MeshError with a position in the text."""
    only_mesh_errors(text)
    only_mesh_errors(HEAD + "  it: " + text)


@given(st.integers(0, len(VALID)), st.integers(0, 6), st.lists(PIECES, max_size=3).map("".join))
@settings(max_examples=80 * MORE)
def test_randomly_edited_configuration_raises_only_mesh_errors(at: int, less: int, more: str) -> None:
    """Loading a valid configuration with a random edit returns documents or raises a MeshError."""
    only_mesh_errors(VALID[:at] + more + VALID[at + less :])


@given(st.text(max_size=60))
@settings(max_examples=60 * MORE)
def test_quoted_text_survives_a_round_trip(text: str) -> None:
    """Any quoted text survives a round trip unchanged."""
    dumped = yaml.safe_dump({"it": text}, default_style='"', width=10_000)
    assert load(HEAD + "  " + dumped)[0].spec["it"] == text
