"""Java's flags, as the images of Kafka and Debezium take them."""

from __future__ import annotations

from labstack.paths import CONFIG


def java_options(component: str, archive: str = "") -> dict[str, str]:
    """Return the variables that carry the flags of ``lab-stack/COMPONENT/jvm.options``.

    Parameters
    ----------
    component : str
        Its folder of configuration.
    archive : str
        Where in the container Java shall keep its archive of classes, for a quicker start: Java makes it when it ends
        without a good one (from Java 19 on). Empty for an image that brings its own.
    """
    lines = (CONFIG / component / "jvm.options").read_text(encoding="utf-8").splitlines()
    flags = [line for line in lines if line.startswith("-")]
    if archive:
        flags += [
            "-XX:+IgnoreUnrecognizedVMOptions",
            "-XX:+AutoCreateSharedArchive",
            f"-XX:SharedArchiveFile={archive}",
        ]
    heap = [flag for flag in flags if flag.startswith(("-Xms", "-Xmx"))]
    return {
        "KAFKA_HEAP_OPTS": " ".join(heap),
        "KAFKA_JVM_PERFORMANCE_OPTS": " ".join(flag for flag in flags if flag not in heap),
    }
