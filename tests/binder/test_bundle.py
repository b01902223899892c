"""A room without a network: the bundle contains everything that a machine needs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from labstack.config.paths import LabPaths
from labstack.config.versions import VERSIONS
from labstack.install.catalogue import entry
from labstack.install.offline import copy_programs
from labstack.install.store import Store
from tests.suite.no_network import WITHOUT_NETWORK, needs_network_isolation
from tools import make_bundle
from tools.make_bundle import TAKEN, WITHOUT, write_sums
from tools.notices import IN_THE_FILE, PROGRAMS, licence_of, notices

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a bundle as an instructor does."""
    folder = tmp_path_factory.mktemp("stick") / "bundle"
    subprocess.run([sys.executable, "tools/make_bundle.py", folder], cwd=ROOT, check=True)
    yield folder
    shutil.rmtree(folder)


def assert_sums(folder: Path) -> None:
    """Assert that SHA256SUMS lists every file of a folder, and that the sum of the largest file is right."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: sum_ for sum_, name in (line.split("  ", 1) for line in lines)}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    assert set(sums) == files - {"SHA256SUMS"}
    largest = max(sums, key=lambda name: (folder / name).stat().st_size)
    assert hashlib.sha256((folder / largest).read_bytes()).hexdigest() == sums[largest]


def test_checksums_cover_every_file_below_a_folder(tmp_path: Path) -> None:
    """SHA256SUMS lists every file below a folder, whatever its name, and no link."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a b.whl").write_bytes(b"a wheel")
    (tmp_path / "ä.jar").write_bytes(b"a longer archive")
    (tmp_path / "link").symlink_to("ä.jar")
    write_sums(tmp_path)
    assert_sums(tmp_path)


def test_the_notices_name_each_file_and_its_licence(tmp_path: Path) -> None:
    """The notices list every jar and program of a lab with a licence that is stated somewhere."""
    for name in TAKEN:
        (tmp_path / "programs").mkdir(exist_ok=True)
        (tmp_path / "programs" / name).symlink_to(LabPaths.of_user().cache / name)
    jars = sorted((tmp_path / "programs" / "jars").rglob("*.jar"))
    assert len(jars) == len(VERSIONS["maven"]["jars"])
    text = notices(tmp_path)
    for jar in jars:
        assert f"\n{jar.name}: " in text
    assert "not stated" not in text
    assert "debezium-connector-postgres-3.7.0.Final.jar: Apache-2.0" in text


def test_package_licences_come_from_their_metadata() -> None:
    """A licence comes from an expression, a classifier or plain words; otherwise the notice refers to the file."""
    stated = {package.metadata["Name"]: licence_of(package.metadata) for package in distributions()}
    assert "Apache" in stated["confluent-kafka"]
    assert "BSD" in stated["pandas"]
    assert list(stated.values()).count(IN_THE_FILE) < 5


def test_the_bundle_excludes_grafana() -> None:
    """The bundle excludes Grafana, since redistribution would require offering its source."""
    assert "grafana" in WITHOUT
    assert "grafana" not in PROGRAMS


@pytest.mark.long
def test_every_file_of_a_bundle_has_a_checksum(bundle: Path) -> None:
    """SHA256SUMS lists every file of packages and programs with its sum."""
    assert_sums(bundle / "offline")


@pytest.mark.long
@needs_network_isolation
def test_the_bundle_installs_without_a_network(bundle: Path, tmp_path: Path) -> None:
    """With a fresh home and no network, everything is installed without downloads, and an order completes."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "VIRTUAL_ENV", "PIP_", "UV_", "LAB_"))},
        "HOME": str(tmp_path),
        "LAB_MODE": "local",
        "LAB_CONTROL_PLANE": "translator",
        "LAB_OBSERVABILITY": "off",
    }
    python = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    output = ""
    lab = "saga-lab/.venv/bin/lab"
    order_command = f"{lab} up && {lab} demo; status=$?; {lab} down --purge; exit $status"  # in one network namespace
    for command in ([python, "saga-lab/start.py", "env"], [lab, "prefetch"], ["sh", "-c", order_command]):
        done = subprocess.run(
            [*WITHOUT_NETWORK, *command], cwd=bundle, env=environment, capture_output=True, text=True, timeout=400
        )
        output += done.stdout + done.stderr
        assert done.returncode == 0, output
    assert "program files from the bundle" in output
    assert "downloading" not in output


def test_programs_from_a_fat_stick_are_used(tmp_path: Path) -> None:
    """After a copy through FAT, which keeps neither permissions nor exact times, a program counts as installed."""
    installed = Store(entry("prometheus"), LabPaths(tmp_path, tmp_path / "cache"))
    with installed.staging() as staging:
        (staging / "files").mkdir()
        for name, content in {"prometheus": b"\x7fELF and more", "LICENSE": b"Apache"}.items():
            (staging / "files" / name).write_bytes(content)
            (staging / "files" / name).chmod(0o755 if name == "prometheus" else 0o644)
        installed.put(staging / "files", "image", "a registry")
    stick = tmp_path / "stick"
    shutil.copytree(tmp_path / "cache", stick)
    for file in (path for path in stick.rglob("*") if path.is_file()):
        file.chmod(0o644)
        os.utime(file, (1_700_000_000, 1_700_000_000))
    copied = Store(entry("prometheus"), LabPaths(tmp_path, tmp_path / "learner"))
    copy_programs(stick, tmp_path / "learner")
    program = copied.find()
    assert program is not None
    assert os.access(program.path, os.X_OK)
    assert not os.access(program.path.with_name("LICENSE"), os.X_OK)
    (stick / "programs" / "prometheus" / "3.5.0" / "files" / "prometheus").write_bytes(b"\x7fELF but another")
    copy_programs(stick, tmp_path / "other")
    assert Store(entry("prometheus"), LabPaths(tmp_path, tmp_path / "other")).find() is None


@pytest.mark.parametrize("is_clone", [False, True], ids=["zip", "damaged clone"])
def test_a_repository_without_git_is_copied(is_clone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From GitHub's ZIP, or if git fails, the bundle gets the files unchanged, without generated ones."""
    source = tmp_path / "saga-lab-main"
    for name in ("start.py", "labkit/__init__.py", ".venv/bin/lab", "labkit/__pycache__/x.pyc", "stick/saga-lab/old"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    if is_clone:
        (source / ".git").mkdir()
    monkeypatch.setattr(make_bundle, "ROOT", source)
    make_bundle.copy_repository(target := source / "stick" / "saga-lab")
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "start.py",
        "labkit/__init__.py",
    }


def test_a_bundle_that_fails_states_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a step fails, one sentence names it, and the next step is to correct it."""

    def fail(target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(make_bundle, "copy_repository", fail)
    monkeypatch.setattr(sys, "argv", ["make_bundle.py", str(tmp_path / "bundle")])
    assert make_bundle.main() == 1
    assert "can't be made: [Errno 28] No space left on device" in capsys.readouterr().err


def test_copying_programs_never_overwrites_a_file(tmp_path: Path) -> None:
    """Copying programs from a bundle again copies nothing, and never overwrites a file."""
    bundle, cache = tmp_path / "programs", tmp_path / "cache"
    (bundle / "jars").mkdir(parents=True)
    (bundle / "jars" / "a.jar").write_text("new")
    (bundle / "jars" / "b.jar").write_text("b")
    (cache / "jars").mkdir(parents=True)
    (cache / "jars" / "a.jar").write_text("mine")
    assert copy_programs(bundle, cache) == 1
    assert copy_programs(bundle, cache) == 0
    assert (cache / "jars" / "a.jar").read_text() == "mine"
    assert sorted(path.name for path in (cache / "jars").iterdir()) == ["a.jar", "b.jar"]
