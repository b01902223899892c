"""The settings of pip and uv that an installation respects: where packages come from, and how to reach that place.

A user's other settings (`user`, `target`, `require-hashes`, `constraint`, `no-binary` and so on) belong to other
projects, and would install the lab's packages elsewhere or not at all. Standard library only, because `start.py` uses
this module before anything is installed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "retries": ("UV_HTTP_RETRIES",),
    "keyring-provider": ("UV_KEYRING_PROVIDER",),
    "cache-dir": (),
    "no-input": (),
}
"""The respected settings of pip, and the variables that tell uv the same. uv doesn't read pip's settings."""

FOR_UV = {"keyring-provider": re.compile("disabled|subprocess"), "timeout": re.compile(r"\d+")}
"""The values that uv accepts, where pip accepts others, too."""

OF_UV = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX\w*|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS"
    r"|(HTTP|REQUEST)_\w+|HTTPS_PROXY|NO_PROXY|KEYRING_PROVIDER|CACHE_DIR|NO_CACHE|LINK_MODE|CONCURRENT_\w+)"
)
"""The respected variables of uv."""

FORMER_NAMES = {"UV_INDEX_URL": "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL": "UV_INDEX"}

UV_FILE = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "allow-insecure-host": "UV_INSECURE_HOST",
}
"""The respected keys of `uv.toml`, at its top and in its table `pip`, as variables."""


def without_python_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that change how Python works.

    For example, `PYTHONPATH` could replace a locked package, and `PYTHONHOME` and `PYTHONINSPECT` stop every program.
    """
    foreign = ("PYTHON", "__PYVENV_LAUNCHER__")
    return {n: value for n, value in environment.items() if n == "PYTHONUNBUFFERED" or not n.startswith(foreign)}


def outside(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any variables of Python, its virtual environments, pip, uv and the build."""
    foreign = ("PIP_", "UV_", "VIRTUAL_ENV", "HATCH_")
    return {name: value for name, value in without_python_settings(environment).items() if not name.startswith(foreign)}


def installer_environment(python: Path) -> dict[str, str]:
    """Return the environment for `pip` and `uv`: the caller's, with only those settings that are respected.

    Parameters
    ----------
    python : Path
        A Python with pip, whose configuration files apply.

    Raises
    ------
    subprocess.CalledProcessError
        If pip can't read its configuration.
    """
    pip = _of_pip(python)
    of_uv = {FORMER_NAMES.get(name, name): value for name, value in os.environ.items() if OF_UV.fullmatch(name)}
    variables = {**_of_uv_files(), **of_uv}
    for name, value in pip.items():
        if name not in FOR_UV or FOR_UV[name].fullmatch(value):
            separator = "," if name == "find-links" else " "
            for variable in PIP_TO_UV[name]:
                variables.setdefault(variable, separator.join(value.split()))
    return {
        # Many networks use their own certificates, which the system trusts and uv by default does not.
        "UV_SYSTEM_CERTS": "true",
        **outside(os.environ),
        **{name: value for name, value in variables.items() if value},
        "UV_NO_CONFIG": "1",
        **{f"PIP_{name.upper().replace('-', '_')}": value for name, value in pip.items()},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def in_use(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables among these that an installation respects, for an error message."""
    return sorted(name for name in environment if OF_UV.fullmatch(name) or _pip_name(name) in PIP_TO_UV)


def _pip_name(variable: str) -> str:
    """Return the name of the setting behind a variable of pip; empty for other variables."""
    return variable.removeprefix("PIP_").lower().replace("_", "-") if variable.startswith("PIP_") else ""


def _of_pip(python: Path) -> dict[str, str]:
    """Return pip's respected settings by name. A variable takes precedence over the configuration files."""
    bare = outside(os.environ)
    if file := os.environ.get("PIP_CONFIG_FILE"):
        bare["PIP_CONFIG_FILE"] = file
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"], env=bare, cwd=os.sep, capture_output=True, text=True, errors="replace"
    )
    if listed.returncode and "No module named pip" not in listed.stderr:  # uv creates environments without pip
        raise subprocess.CalledProcessError(listed.returncode, listed.args, listed.stdout, listed.stderr)
    found: dict[str, str] = {}
    for section in ("global", "install"):
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.+)$", listed.stdout, re.M):
            found[name] = str(ast.literal_eval(value))
    found |= {name: value for variable, value in os.environ.items() if value and (name := _pip_name(variable))}
    if "default-timeout" in found:  # pip's other name of this setting
        found.setdefault("timeout", found["default-timeout"])
    return {name: value for name, value in found.items() if name in PIP_TO_UV}


def _of_uv_files() -> dict[str, str]:
    """Return uv's respected settings in the system's and the user's configuration file, as variables."""
    import tomllib  # start.py reports an older Python, which has no such module

    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME", os.sep), ".config"))
    files = [Path("/etc/uv/uv.toml"), config / "uv" / "uv.toml"]
    if chosen := os.environ.get("UV_CONFIG_FILE"):
        files = [Path(chosen)]
    found: dict[str, str] = {}
    for file in files:
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for table in (content, content.get("pip", {})):
            found |= {UV_FILE[key]: _joined(key, value) for key, value in table.items() if key in UV_FILE}
        indexes: list[dict[str, Any]] = content.get("index", [])
        for variable, wanted in (("UV_DEFAULT_INDEX", True), ("UV_INDEX", False)):
            if urls := [index["url"] for index in indexes if index.get("default", False) is wanted and "url" in index]:
                found[variable] = " ".join(urls)
    return found


def _joined(key: str, value: str | list[str]) -> str:
    separator = "," if key == "find-links" else " "
    return value if isinstance(value, str) else separator.join(value)
