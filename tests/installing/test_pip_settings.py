"""The settings of pip and uv that an installation respects, and those that it ignores."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.installation import run_watched
from tools.pip_settings import in_use, installer_environment, without_python_settings

FOREIGN = {
    "PIP_USER": "1",
    "PIP_TARGET": "/elsewhere",
    "PIP_PREFIX": "/elsewhere",
    "PIP_PYTHON": "/elsewhere/python3",
    "PIP_CONSTRAINT": "/etc/pip/constraint.txt",
    "PIP_REQUIRE_HASHES": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_DRY_RUN": "1",
    "PIP_LOG": "/missing/pip.log",
    "UV_SYSTEM_PYTHON": "1",
    "UV_TARGET": "/elsewhere",
    "UV_CONSTRAINT": "/etc/uv/constraint.txt",
    "UV_REQUIRE_HASHES": "1",
    "UV_NO_BINARY": "1",
    "UV_EXCLUDE_NEWER": "2006-01-01",
    "UV_PYTHON": "2.7",
    "UV_PROJECT_ENVIRONMENT": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
    "PYTHONHOME": "/elsewhere",
    "PYTHONSTARTUP": "/elsewhere/startup.py",
    "VIRTUAL_ENV": "/elsewhere",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home whose configuration files contain foreign settings, and no variables of pip and uv."""
    for name in in_use(os.environ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    for name in ("pip", "uv"):
        (tmp_path / ".config" / name).mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[global]\nuser = true\n[install]\nrequire-hashes = true\n")
    (tmp_path / ".config" / "uv" / "uv.toml").write_text('[pip]\nrequire-hashes = true\ntarget = "/elsewhere"\n')
    return tmp_path


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_foreign_settings_do_not_redirect_an_installation(
    monkeypatch: pytest.MonkeyPatch, python: Path, tmp_path: Path, installer: str
) -> None:
    """A package is installed into `.venv`, regardless of pip's and uv's variables and files for other projects."""
    name = f"tea_{installer}"
    with zipfile.ZipFile(wheel := tmp_path / f"{name}-1-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        info = f"{name}-1.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    for variable, value in FOREIGN.items():
        monkeypatch.setenv(variable, value)
    commands: dict[str, list[str | Path]] = {
        "pip": [python, "-m", "pip", "install"],
        "uv": [sys.executable, "-I", "-m", "uv", "pip", "install", "--python", python],
    }
    run_watched([*commands[installer], "--quiet", "--no-index", wheel], installer_environment(python), check=True)
    clean = without_python_settings(FOREIGN)
    found = subprocess.run([python, "-c", f"import {name}; print({name}.__file__)"], env=clean, capture_output=True)
    assert str(python.parent.parent) in found.stdout.decode()


def test_the_source_of_packages_reaches_both_installers(
    monkeypatch: pytest.MonkeyPatch, home: Path, python: Path
) -> None:
    """Index, proxy and certificates of pip's files and variables apply to pip and uv; a variable takes precedence."""
    conf = "[global]\nindex-url = https://mirror.example/simple\ntrusted-host = a.example\n    b.example\ntimeout = 9\n"
    (home / ".config" / "pip" / "pip.conf").write_text(conf)
    monkeypatch.setenv("PIP_CERT", "/etc/company.pem")
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "60")
    monkeypatch.setenv("PIP_TIMEOUT", "90")
    env = installer_environment(python)
    assert (env["PIP_INDEX_URL"], env["UV_DEFAULT_INDEX"]) == ("https://mirror.example/simple",) * 2
    assert env["PIP_TRUSTED_HOST"].split() == env["UV_INSECURE_HOST"].split() == ["a.example", "b.example"]
    assert (env["PIP_CERT"], env["SSL_CERT_FILE"]) == ("/etc/company.pem",) * 2
    assert (env["PIP_PROXY"], env["HTTPS_PROXY"]) == ("http://proxy.example:3128",) * 2
    assert (env["PIP_TIMEOUT"], env["UV_HTTP_TIMEOUT"]) == ("90", "90")


def test_the_variables_and_files_of_uv_still_apply(monkeypatch: pytest.MonkeyPatch, home: Path, python: Path) -> None:
    """uv's own index, in a variable or in uv.toml, takes precedence over that of pip."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    file = home / ".config" / "uv" / "uv.toml"
    file.write_text('extra-index-url = ["https://a.example", "https://b.example"]\n')
    file.write_text(file.read_text() + '[[index]]\nurl = "https://uv.example/simple"\ndefault = true\n')
    env = installer_environment(python)
    assert env["UV_DEFAULT_INDEX"] == "https://uv.example/simple"
    assert env["UV_INDEX"] == "https://a.example https://b.example"
    monkeypatch.setenv("UV_INDEX_URL", "https://variable.example/simple")
    assert installer_environment(python)["UV_DEFAULT_INDEX"] == "https://variable.example/simple"
    assert in_use({"UV_INDEX_URL": "", "PIP_INDEX_URL": "", "PIP_USER": ""}) == ["PIP_INDEX_URL", "UV_INDEX_URL"]
