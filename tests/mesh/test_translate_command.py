"""The command `lab mesh translate`."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from labstack.cli.mesh_objects import mesh

CASES = Path(__file__).parent / "cases"


def _run(*files: Path) -> Result:
    return CliRunner().invoke(mesh, ["translate", *map(str, files)])


def test_a_file_is_printed_as_one_json_object() -> None:
    """Standard output contains only the four lists."""
    case = CASES / "14-four-services"
    result = _run(case / "input.yaml")
    kinds = ("clusters", "endpoints", "listeners", "routes")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {kind: json.loads((case / f"{kind}.json").read_text()) for kind in kinds}
    assert result.stderr == ""


def test_several_files_are_one_configuration(tmp_path: Path) -> None:
    """A VirtualService in one file routes to a service in another."""
    case = CASES / "05-defaults"
    documents = (case / "input.yaml").read_text().split("---\n")
    files = [tmp_path / f"{number}.yaml" for number in range(len(documents))]
    for file, text in zip(files, documents, strict=True):
        file.write_text(text)
    result = _run(*files)
    assert json.loads(result.stdout)["routes"] == json.loads((case / "routes.json").read_text())


def test_warnings_go_to_standard_error() -> None:
    """A broken reference causes a warning on standard error, and is translated nevertheless."""
    result = _run(CASES / "45-broken-references" / "input.yaml")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["clusters"]
    assert "warning: " in result.stderr
    assert "no DestinationRule has a subset `v9`" in result.stderr


def test_rejected_input_prints_nothing_and_exits_with_status_1(tmp_path: Path) -> None:
    """An unsupported kind, malformed YAML and a missing file exit with status 1 and a reason."""
    envoy_filter = tmp_path / "filter.yaml"
    envoy_filter.write_text("apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\n")
    no_yaml = tmp_path / "no.yaml"
    no_yaml.write_text("kind: [\n")
    for file, reason in ((envoy_filter, f"{envoy_filter}:2: kind"), (no_yaml, f"{no_yaml}:"), (tmp_path / "x", "x")):
        result = _run(file)
        assert (result.exit_code, result.stdout) == (1, "")
        assert reason in result.stderr
