"""Python packages that own the same files: whichever was installed last decides."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from labstack.errors import ProgramMissing

PACKAGE, OTHER = "opentelemetry-proto", "xds-protos"
MODULE, NEWER = "opentelemetry.proto.common.v1", b"InstrumentationScope"
"""What the exporter of traces wants, and the copies in xds-protos are too old for."""


def check() -> None:
    """See that opentelemetry-proto's files are its own, without which no service starts.

    ``start.py`` and Binder's ``postBuild`` put them right; ``pip install`` and conda leave it to chance.

    Raises
    ------
    ProgramMissing
        They are xds-protos' older copies; says how to put them right.
    """
    spec = importlib.util.find_spec(MODULE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if NEWER in (Path(folder) / "common_pb2.py").read_bytes():
            return
    raise ProgramMissing(
        f"{PACKAGE}'s files were overwritten by older copies that {OTHER} brings, so no service can start.",
        next_step=f"pip install --force-reinstall --no-deps {PACKAGE}=={metadata.version(PACKAGE)}",
    )
