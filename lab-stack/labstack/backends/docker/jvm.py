"""Java flags as environment variables of the Kafka and Debezium images."""

from __future__ import annotations

from labstack.config.paths import CONFIG


def java_options(component: str, archive: str = "") -> dict[str, str]:
    """Return the environment variables that carry the flags of ``lab-stack/COMPONENT/jvm.options``.

    Parameters
    ----------
    component : str
        Name of the component's configuration folder.
    archive : str
        Path of the class-data archive in the container. Java 19 and newer builds it at exit if there is no valid one.
        Empty for an image that has its own archive.
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
