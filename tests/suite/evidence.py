"""Evidence for the report of a failed test: the cell's stderr, and the logs of components that do not run."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.suite.report import LOGS, STDERR
from tests.suite.schedule import COURSE, pool_of

LINES = 15
"""Number of lines to show from each log."""


def sections(item: pytest.Item) -> list[tuple[str, str]]:
    """Return the titles and texts to add to the report of a failed test."""
    outputs = getattr(item, "test_outputs", None) or []
    stderr = "".join(one.text for one in outputs if one.get("name") == "stderr")
    return [*([(STDERR, stderr)] if stderr else []), *logs_of_failed_components(item)]


def logs_of_failed_components(item: pytest.Item) -> list[tuple[str, str]]:
    """Return the end of the log of each component that should run but does not, in every lab of this worker."""
    # Imported here: only a failure needs the lab's modules, which take a second to import.
    from labstack import Lab
    from tests.stack.labs import LabHarness

    labs = [harness.lab for harness in LabHarness.open]
    if pool_of(item) == COURSE:
        labs.append(Lab())
    found = []
    for lab in labs:
        with suppress(Exception):  # a broken lab may not answer, and the test's own error matters more
            status = lab.status(memory=False)
            if status.state == "stopped":
                continue
            for name in status.complaints.keys() & status.components:
                complaint = status.complaints[name]
                found.append((f"{LOGS}{name} ({complaint})", lab.logs(name, LINES)))
    return found
