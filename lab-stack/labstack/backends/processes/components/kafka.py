"""The Kafka broker: one KRaft node."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.java.jars import DIGEST, class_path
from labstack.backends.processes.java.java import find_java
from labstack.backends.processes.java.java_component import JavaComponent
from labstack.backends.processes.process import Command
from labstack.config.environment import run
from labstack.config.paths import CONFIG, LabPaths, temporary_path
from labstack.config.templates import fill_into
from labstack.errors import ComponentFailed
from labstack.observability import jmx
from labstack.state import remove_tree

CLUSTER_ID = "sagalabsagalabsagalabs"
STORAGE_FILES = ("meta.properties", "bootstrap.checkpoint")


def archive(paths: LabPaths, component: str) -> Path:
    """Return the path of a component's class-data archive. It depends on the Java version, the jars and the flags."""
    options = b"".join((CONFIG / part / "jvm.options").read_bytes() for part in ("kafka", "connect"))
    made_by = f"{DIGEST}-{find_java().version}-{hashlib.sha256(options).hexdigest()[:8]}"
    return paths.cache / "java" / made_by / f"{component}.archive"


def java_command(
    paths: LabPaths,
    component: str,
    main: str,
    *arguments: str,
    extra: tuple[str, ...] = (),
    archived: bool = True,
) -> Command:
    """Return the command that runs a main class of the jars, with the flags of ``lab-stack/COMPONENT/jvm.options``."""
    java = find_java()
    logging = fill_into(CONFIG / "kafka" / "log4j2.properties", paths.config(component) / "log4j2.properties", {})
    return Command(
        [
            str(java.program),
            f"@{CONFIG / component / 'jvm.options'}",
            f"-Dlog4j2.configurationFile={paths.relative(logging)}",
            *(java.use_archive(archive(paths, component)) if archived else ()),
            *extra,
            *("-cp", class_path(paths.cache), main, *arguments),
        ],
        cwd=paths.state,
    )


class Kafka(interfaces.Broker, JavaComponent):
    """The broker."""

    ports = MappingProxyType({"kafka": 9092, "kafka-controller": 9093, jmx.port_name("kafka"): 9404})

    def prepare(self) -> Command:
        data = self.context.paths.data(self.name)
        properties = fill_into(
            CONFIG / "kafka" / "server.properties",
            self.context.paths.config(self.name) / "server.properties",
            {
                "LISTENERS": f"PLAINTEXT://{self.address}",
                "ADVERTISED": f"PLAINTEXT://{self.address}",
                "CONTROLLER_PORT": self.context.ports["kafka-controller"],
                "DATA": self.context.paths.relative(data),
            },
        )
        if not (data / "meta.properties").exists():
            self._format(data, properties)
        return java_command(
            self.context.paths,
            self.name,
            "kafka.Kafka",
            self.context.paths.relative(properties),
            extra=self._java_extra,
            archived=self._archived,
        )

    def _format(self, data: Path, properties: Path) -> None:
        """Format the log folder. Reuse the files that Kafka's tool wrote the first time, which saves a Java startup."""
        template = self.context.paths.cache / "kafka" / f"storage-{DIGEST}"
        remove_tree(data)
        if all((template / name).exists() for name in STORAGE_FILES):
            data.mkdir(parents=True)
            for name in STORAGE_FILES[::-1]:
                shutil.copy(template / name, data / name)
            return
        command = java_command(
            self.context.paths,
            self.name,
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", CLUSTER_ID, "--config", self.context.paths.relative(properties)),
        )
        done = run(command.argv, cwd=command.cwd, timeout=60)
        if done.returncode:
            raise ComponentFailed(
                "Kafka's storage tool could not format the log folder.",
                log=(done.stdout + done.stderr)[-1500:],
                next_step="run `lab doctor`",
            )
        template.mkdir(parents=True, exist_ok=True)
        for name in STORAGE_FILES:
            if (data / name).exists():
                partial = temporary_path(template / name)
                shutil.copy(data / name, partial)
                partial.replace(template / name)  # another lab may be reading it
