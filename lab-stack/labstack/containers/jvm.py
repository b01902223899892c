"""Java's flags, as the images of Kafka and Debezium take them."""

from __future__ import annotations

from labstack.paths import CONFIG


def java_options(component: str) -> dict[str, str]:
    """Return the variables that carry the flags of ``lab-stack/COMPONENT/jvm.options``."""
    lines = (CONFIG / component / "jvm.options").read_text(encoding="utf-8").splitlines()
    flags = [line for line in lines if line.startswith("-")]
    heap = [flag for flag in flags if flag.startswith(("-Xms", "-Xmx"))]
    return {
        "KAFKA_HEAP_OPTS": " ".join(heap),
        "KAFKA_JVM_PERFORMANCE_OPTS": " ".join(flag for flag in flags if flag not in heap),
    }
