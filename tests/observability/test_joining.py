"""Observers that join a running lab: installed by hand, or downloaded in the background."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from labkit import begin
from labkit.waiting import wait_until
from labstack.config.paths import LabPaths
from labstack.install import find_program
from labstack.install.sources.from_image import this_platform
from labstack.lab import access_of
from labstack.lifecycle import obtaining
from labstack.observability import observers
from labstack.ports.free import choose
from labstack.state import StateStore
from tests.observability.bare import bare_lab, install_program
from tests.stack.labs import LabHarness
from tests.stack.registry import Member, Registry, serve_registry

UNREACHABLE_IMAGE = "127.0.0.1:9/nothing:1"


def processes(harness: LabHarness) -> dict[str, int | None]:
    return {name: component.pid for name, component in harness.lab.status(memory=False).components.items()}


def all_targets_are_up(up: pd.DataFrame) -> bool:
    """Report whether Prometheus has scraped every component of the lab successfully."""
    return {"services", "gateway", "relay", "kafka", "connect"} <= set(up.get("job", ())) and bool(
        (up.value == 1).all()
    )


@pytest.mark.needs("prometheus", "jaeger")
def test_observers_installed_later_join_the_running_lab() -> None:
    """`lab up` starts only the new observers, and they see the whole lab, and earlier traces."""
    with bare_lab("later") as harness:
        harness.run_checked("up")
        session = begin("01", harness.lab)
        early = session.shop.place_order("ada", "lisbon", {"sencha": 1})
        assert session.shop.follow(early).status == "COMPLETED"
        wait_until(lambda: "order.id" in access_of(harness.lab).backend().spans("order"), 10)
        before = processes(harness)
        assert not {"prometheus", "jaeger"} & set(before)
        for name in ("prometheus", "jaeger"):
            install_program(harness, name)
        harness.run_checked("up")
        after = processes(harness)
        assert set(after) - set(before) == {"prometheus", "jaeger"}
        assert {name: after[name] for name in before} == before

        session = begin("10", harness.lab)
        wait_until(lambda: len(session.look.traces.all_of(early)) == 1, 20)
        late = session.shop.place_order("ada", "lisbon", {"sencha": 1})
        assert session.shop.follow(late).status == "COMPLETED"
        wait_until(lambda: session.look.traces.all_of(late)[0].roots[0].service == "gateway", 20)
        wait_until(lambda: all_targets_are_up(session.look.metrics.query("up")), 30)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry on this machine."""
    running = Registry(tmp_path, choose(5000, set()))
    with serve_registry(running.folder, running.port):
        yield running


@pytest.mark.needs("prometheus")
def test_missing_programs_are_downloaded_while_the_lab_runs(registry: Registry, tmp_path: Path) -> None:
    """Programs join after `lab up` returns; a failed download is reported, and not retried within the hour."""
    program = find_program("prometheus", LabPaths.of_user())
    assert program is not None
    # The real program, without a need to pack its 100 MB.
    runs = Member("bin/prometheus", f'#!/bin/sh\nexec {program.path} "$@"\n'.encode(), mode=0o755)
    here = this_platform().split("/")[1]
    digest = registry.upload_index({here: registry.upload_image([runs], architecture=here)}, tag="1")
    environment = {
        "LAB_OBSERVABILITY": "auto",
        "LAB_CONTROL_PLANE": "auto",
        "LAB_INSTALL_IMAGE_PROMETHEUS": f"{registry.repository()}:1@{digest}",
        "LAB_INSTALL_IMAGE_ISTIOD": UNREACHABLE_IMAGE,
        "XDG_CONFIG_HOME": str(tmp_path / "configuration"),
    }
    with bare_lab("obtains", environment) as harness:
        harness.paths.make()
        others = [name for name in observers.NAMES if name != "prometheus"]
        failed = {name: obtaining.Download("failed", "no network", time.time()) for name in others}
        obtaining.note(harness.paths, failed)
        harness.run_checked("up")

        def settled() -> bool:
            return all(step.is_settled for step in obtaining.steps(harness.paths).values())

        wait_until(settled, 60)
        steps = obtaining.steps(harness.paths)
        assert {name: step.stage for name, step in steps.items()} == {
            "prometheus": "there",
            **dict.fromkeys(others, "failed"),
            "istiod": "failed",
        }
        status = json.loads(harness.run_checked("status", "--json"))
        assert status["components"]["prometheus"]["state"] == "running"
        assert status["state"] == "ready"
        assert status["not_fetched"] == [*others, "istiod"]
        assert f"without {', '.join(others)}, istiod (optional)" in harness.run_checked("status")
        before = steps["istiod"].at
        harness.run_checked("up")
        assert not obtaining.is_running(StateStore(harness.paths).lab_id)
        assert obtaining.steps(harness.paths)["istiod"].at == before
