"""Each benchmark runs with tiny parameters on real programs. The tests assert that figures exist, not their values."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.figures import Latency
from benchmarks.helper import HelperFailed, helper

ROOT = Path(__file__).resolve().parents[2]


def _run(name: str, folder: Path) -> dict[str, Any]:
    file = folder / f"{name}.json"
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert results["machine"]["cpus"] == psutil.cpu_count()
    assert len(results["machine"]["load_average"]) == len(results["load_average_at_end"]) == 3
    return results


@pytest.mark.long
def test_start_measures_stages_memory_and_the_bare_relay(tmp_path: Path) -> None:
    """`start` reports the time to ready from both states next to the bare relay's, every stage, and every cost."""
    results = _run("start", tmp_path)
    assert [row["from"] for row in results["ready"]] == ["empty data folder", "stopped with data"]
    assert all(row["ratio"] > 0 for row in results["ready"])
    stages = {stage["name"] for stage in results["starts"][-1]["stages"]}
    assert {"kafka", "connect", "order", "order-db"} <= stages
    assert set(results["memory_after_orders_bytes"]) == set(results["idle_cores"])
    assert all(size > 0 for size in results["memory_after_orders_bytes"].values())
    assert results["orders"] > 0
    assert results["unfinished"] == 0


@pytest.mark.long
def test_relay_measures_every_hop_and_every_reference(tmp_path: Path) -> None:
    """`relay` reports latencies of each hop with both settings, of the polling relay, the floor and the chain."""
    results = _run("relay", tmp_path)
    samples = [
        *results["lab_ms"].values(),
        *results["stock_ms"].values(),
        *results["polling_ms"].values(),
        *results["floor_ms"].values(),
        results["five_hops_ms"],
    ]
    assert all(sample["n"] > 0 and 0 < sample["p50"] <= sample["p95"] <= sample["p99"] for sample in samples)
    assert {"order", "inventory", "payment", "shipping"} <= set(results["lab_ms"])
    assert "psycopg" in results["polling_ms"]


def test_gateway_measures_its_cost_and_its_changes(tmp_path: Path) -> None:
    """`gateway` reports latencies with and without it and the time until a change applies, and no request fails."""
    results = _run("gateway", tmp_path)
    assert "translator" in results["planes"]
    for plane in results["planes"].values():
        for name in ("direct_ms", "through_ms", "apply_to_answer_ms", "edit_to_answer_ms"):
            assert 0 < plane[name]["p50"] <= plane[name]["p95"]
        assert plane["failed_meanwhile"] == 0
        assert plane["requests_meanwhile"] > 0


@pytest.mark.long
def test_scale_compares_each_prediction_with_a_measurement(tmp_path: Path) -> None:
    """`scale` reports the cost of each component, and a measured value beside each predicted one."""
    results = _run("scale", tmp_path)
    assert {"connect", "kafka", "order", "order-db"} <= set(results["costs"])
    assert results["limit_orders_per_s"] > 0
    assert all(0 < point["measured_ms"]["p50"] <= point["measured_ms"]["p95"] for point in results["latency"])
    assert len(results["drained"]) == 8
    assert all(point["measured_orders_per_s"] > 0 for point in results["drained"])
    assert all(point["predicted_orders_per_s"] > 0 for point in results["drained"])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_table_has_every_figure_with_its_reference(tmp_path: Path) -> None:
    """`table` reports every figure, its target and a reference that gives a ratio."""
    results = _run("table", tmp_path)
    assert len(results["figures"]) == 14
    assert all(figure["target"] > 0 for figure in results["figures"])
    assert [figure["name"] for figure in results["figures"] if not figure["by"] > 0] == []


@pytest.mark.long
def test_saga_measures_one_consumer_and_two(tmp_path: Path) -> None:
    """`saga` reports latency, tries and the sustained rate for each number of consumers, and loses no order."""
    results = _run("saga", tmp_path)
    assert [run["consumers"] for run in results["runs"]] == [1, 2]
    for run in results["runs"]:
        assert run["latency"]["orders"] > 0
        assert run["latency"]["unfinished"] == run["latency"]["refused"] == 0
        assert run["tries"]
    assert results["five_hops_ms"]["n"] > 0


@pytest.mark.long
def test_guards_compares_throughput_with_and_without_them(tmp_path: Path) -> None:
    """`guards` reports the throughput with and without inbox and guards, and loses no order."""
    results = _run("guards", tmp_path)
    assert all(figure > 0 for variant in ("with", "without") for figure in results["orders_per_s"][variant])
    assert results["ratio"] > 0


@pytest.mark.long
def test_seeing_measures_its_cost_and_the_delay_of_views(tmp_path: Path) -> None:
    """`seeing` reports throughput and memory with and without observability, and how soon a view has its records."""
    results = _run("seeing", tmp_path)
    assert all(figure > 0 for variant in ("on", "off") for figure in results["orders_per_s"][variant])
    assert results["ratio"] > 0
    for view in results["views"].values():
        assert view["arrived_ms"]["n"] == view["told_ms"]["n"] > 0
        assert 0 < view["arrived_ms"]["p50"] <= view["told_ms"]["p50"]


@pytest.mark.long
def test_course_measures_its_notebooks(tmp_path: Path) -> None:
    """`course` runs a notebook on a lab that it starts, and reports its seconds."""
    results = _run("course", tmp_path)
    (first,) = results["notebooks"]
    assert first["name"] == "00-start-here"
    assert 0 < first["seconds"] < results["seconds_in_all"]


def test_percentiles_are_nearest_ranks() -> None:
    """Percentiles are nearest ranks, and an empty sample has none."""
    latency = Latency.of([number / 1000 for number in range(1, 101)])
    assert (latency.n, latency.p50, latency.p95, latency.p99, latency.most) == (100, 50, 95, 99, 100)
    assert math.isnan(Latency.of([]).p50)


def test_helper_returns_the_result_or_raises_the_error() -> None:
    """A helper process returns its function's answer or traceback, and is gone after the block."""
    with helper(math.sqrt, 16.0) as running:
        assert running.result(30) == 4.0
        pid = running.pid
    assert not psutil.pid_exists(pid)
    with helper(math.sqrt, -1.0) as running, pytest.raises(HelperFailed, match="ValueError"):
        running.result(30)


def test_helper_that_does_not_respond_is_terminated() -> None:
    """Waiting for a helper times out, and the end of the block terminates it."""
    with helper(time.sleep, 600) as running:
        pid = running.pid
        with pytest.raises(HelperFailed, match="no answer"):
            running.result(0.5)
    assert not psutil.pid_exists(pid)
