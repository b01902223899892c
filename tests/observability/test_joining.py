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
from labstack.lifecycle import obtaining
from labstack.ports.free import choose
from tests.observability.bare import bare_lab, give
from tests.stack.labs import Grounds
from tests.stack.registry import Member, Registry, serving

NOWHERE = "127.0.0.1:9/nothing:1"


def processes(grounds: Grounds) -> dict[str, int | None]:
    return {name: component.pid for name, component in grounds.lab.status(memory=False).components.items()}


def all_answer(up: pd.DataFrame) -> bool:
    """Report whether Prometheus has scraped every component of the lab successfully."""
    return {"services", "gateway", "relay", "kafka", "connect"} <= set(up.get("job", ())) and bool(
        (up.value == 1).all()
    )


@pytest.mark.needs("prometheus", "jaeger")
def test_what_is_installed_later_joins_the_running_lab() -> None:
    """`lab up` starts only the new observers, and they see the whole lab, and earlier traces."""
    with bare_lab("later") as grounds:
        grounds.must("up")
        session = begin("01", grounds.lab)
        early = session.shop.place_order("ada", "lisbon", {"sencha": 1})
        assert session.shop.follow(early).status == "COMPLETED"
        wait_until(lambda: "order.id" in grounds.lab.backend.spans("order"), 10)
        before = processes(grounds)
        assert not {"prometheus", "jaeger"} & set(before)
        for name in ("prometheus", "jaeger"):
            give(grounds, name)
        grounds.must("up")
        after = processes(grounds)
        assert set(after) - set(before) == {"prometheus", "jaeger"}
        assert {name: after[name] for name in before} == before

        session = begin("10", grounds.lab)
        wait_until(lambda: len(session.look.traces(early)) == 1, 20)
        late = session.shop.place_order("ada", "lisbon", {"sencha": 1})
        assert session.shop.follow(late).status == "COMPLETED"
        wait_until(lambda: session.look.traces(late)[0].roots[0].service == "gateway", 20)
        wait_until(lambda: all_answer(session.look.promql("up")), 30)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry on this machine."""
    running = Registry(tmp_path, choose(5000, set()))
    with serving(running.folder, running.port):
        yield running


@pytest.mark.needs("prometheus")
def test_what_is_missing_is_obtained_while_the_lab_runs(registry: Registry, tmp_path: Path) -> None:
    """Programs join after `lab up` returns; a failed download is reported, and not retried within the hour."""
    program = find_program("prometheus", LabPaths.of_user())
    assert program is not None
    # The real program, without a need to pack its 100 MB.
    runs = Member("bin/prometheus", f'#!/bin/sh\nexec {program.path} "$@"\n'.encode(), mode=0o755)
    here = this_platform().split("/")[1]
    digest = registry.index({here: registry.image([runs], architecture=here)}, tag="1")
    environment = {
        "LAB_OBSERVABILITY": "auto",
        "LAB_CONTROL_PLANE": "auto",
        "LAB_INSTALL_IMAGE_PROMETHEUS": f"{registry.repository()}:1@{digest}",
        "LAB_INSTALL_IMAGE_ISTIOD": NOWHERE,
        "XDG_CONFIG_HOME": str(tmp_path / "configuration"),
    }
    with bare_lab("obtains", environment) as grounds:
        grounds.paths.make()
        failed = {name: obtaining.Step("failed", "no network", time.time()) for name in ("jaeger", "grafana")}
        obtaining.note(grounds.paths, failed)
        grounds.must("up")

        def settled() -> bool:
            return all(step.is_settled for step in obtaining.steps(grounds.paths).values())

        wait_until(settled, 60)
        steps = obtaining.steps(grounds.paths)
        assert {name: step.stage for name, step in steps.items()} == {
            "prometheus": "there",
            "jaeger": "failed",
            "grafana": "failed",
            "istiod": "failed",
        }
        status = json.loads(grounds.must("status", "--json"))
        assert status["components"]["prometheus"]["state"] == "running"
        assert status["state"] == "ready"
        assert status["not_fetched"] == ["jaeger", "grafana", "istiod"]
        assert "`lab install jaeger grafana istiod` retries it" in grounds.must("status")
        before = steps["istiod"].at
        grounds.must("up")
        assert not obtaining.is_at_work(grounds.lab)
        assert obtaining.steps(grounds.paths)["istiod"].at == before
