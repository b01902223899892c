"""Figures: percentiles, the machine on which they were measured, and the file that stores both."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from labstack.backends.processes.components.postgres import programs
from labstack.backends.processes.java.java import find_java
from labstack.config.versions import VERSIONS

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Latency:
    """Summary of a sample of latencies, in milliseconds."""

    n: int
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """Summarize a sample given in seconds; the percentiles of an empty sample are NaN."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0, math.nan, math.nan, math.nan, math.nan)
        p50, p95, p99 = (1000 * _percentile(ordered, share) for share in (0.50, 0.95, 0.99))
        return cls(len(ordered), p50, p95, p99, 1000 * ordered[-1])

    def cells(self) -> list[str]:
        """Return the cells of a table row: n, p50, p95, p99, and the maximum."""
        return [str(self.n), *(f"{value:.1f}" for value in (self.p50, self.p95, self.p99, self.most))]


def _percentile(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least this share of the sample does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def machine() -> dict[str, Any]:
    """Return the context that a figure needs: the machine, its load, and the versions."""
    postgres = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "java": find_java().version,
        "postgres": postgres.stdout.strip(),
        "kafka_and_debezium": sorted(
            coordinate.split(":", 1)[1]
            for coordinate in VERSIONS["maven"]["jars"]
            if coordinate.split(":")[1] in ("kafka_2.13", "connect-runtime", "debezium-connector-postgres")
        ),
        "commit": commit.stdout.strip() or None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def write_json(file: Path, name: str, before: dict[str, Any], results: dict[str, Any]) -> None:
    """Write a benchmark's results with facts about the machine; `before` is `machine()` before the benchmark."""
    content = {"benchmark": name, "machine": before, "load_average_at_end": list(os.getloadavg()), **results}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, default=_plain, allow_nan=True) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Latency):
        return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(value).items()}
    raise TypeError(f"{value!r} can't be written as JSON")
