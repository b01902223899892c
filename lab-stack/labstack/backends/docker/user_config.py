"""The user's Docker configuration, ``config.json``: the current context, and the credentials of registries.

Docker's Python client reads this file at several places, and fails or silently ignores it if something in it is wrong.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.auth import AuthConfig, resolve_repository_name
from docker.context import ContextAPI
from docker.errors import DockerException, InvalidConfigFile
from docker.utils.config import find_config_file

from labstack.errors import EngineUnavailable

ADVICE = "correct the file, or use local mode, which needs no Docker: LAB_MODE=local"


def path() -> Path:
    """Return the path of the file, which may not exist."""
    return Path(find_config_file() or Path("~/.docker/config.json").expanduser())


def read() -> dict[str, Any]:
    """Return the content of the file; empty if it does not exist. A byte order mark is accepted.

    Raises
    ------
    ValueError
        If the file contains no JSON object.
    OSError
        If the file can't be read.
    """
    if not path().exists():
        return {}
    content = json.loads(path().read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError("it contains no JSON object")
    return content


def problem() -> str:
    """Return a sentence about a file that can't be read; empty if it can."""
    try:
        read()
    except (OSError, ValueError) as error:
        return f"Also, {path()} can't be read: {error}."
    return ""


def context_host() -> str:
    """Return the engine's address in the current context; empty for the default context.

    Raises
    ------
    EngineUnavailable
        If the context does not exist or can't be read.
    """
    try:
        name = os.environ.get("DOCKER_CONTEXT") or str(read().get("currentContext") or "default")
    except (OSError, ValueError):
        return ""  # `problem` reports it if the default engine is unavailable
    if name == "default":
        return ""
    try:
        context = ContextAPI.get_context(name)
        host = context.Host if context else None
    except Exception as error:  # docker-py raises a plain one for a damaged context
        raise EngineUnavailable(f"The Docker context {name!r} can't be read: {error}.", next_step=ADVICE) from error
    if not host:
        source = "DOCKER_CONTEXT" if os.environ.get("DOCKER_CONTEXT") else f"currentContext in {path()}"
        raise EngineUnavailable(
            f"The Docker context {name!r} does not exist; {source} names it.",
            summary=f"Docker's context {name!r} does not exist",
            next_step="choose another one (`docker context ls`, `docker context use default`), or use local mode: "
            "LAB_MODE=local",
        )
    return str(host)


@contextmanager
def errors() -> Iterator[None]:
    """Translate errors that docker-py raises for unusual content of the file into the lab's.

    Raises
    ------
    EngineUnavailable
        If the file is the cause. The message names it.
    """
    try:
        yield
    except (InvalidConfigFile, AttributeError, LookupError, TypeError, ValueError) as error:
        raise EngineUnavailable(
            f"{path()} is not a valid configuration of Docker: {error}.", next_step=ADVICE
        ) from error


class NoCredentials(AuthConfig):  # docker-py has no types
    """No credentials for any registry: the lab's images are public. `credentials` returns those for a pull."""

    is_empty = False

    def __init__(self) -> None:
        super().__init__({})


def credentials(repository: str) -> tuple[dict[str, Any], str]:
    """Return the user's credentials for a repository's registry, and a clause with the reason if they can't be read.

    Public images need no credentials, so a credential helper that does not run raises no error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # docker-py warns about a missing helper
            config = AuthConfig.load_config(None, read())
            return config.resolve_authconfig(resolve_repository_name(repository)[0]) or {}, ""
    except (DockerException, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        return {}, f" and {path()}, whose credentials can't be read ({error})"
