"""The chart has the services, topics, settings, ports and versions of the other backends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from labservices.contract import SERVICES
from labservices.settings import Settings, variable
from labstack.clients.database_server import DatabaseServer
from labstack.clients.relay import connector_config, connector_name
from labstack.config.paths import CONFIG
from labstack.config.services import instance_name, load_services, load_topics
from labstack.config.versions import VERSIONS
from tests.deploy.rendering import of_kind, pod_templates
from tools import make_chart

LIST = load_services()
TOPICS = load_topics(LIST)


def environment(template: dict[str, Any]) -> dict[str, str]:
    (container,) = template["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_generated_files_are_current() -> None:
    """The chart contains exactly the files that `tools/make_chart.py` writes."""
    folder = make_chart.CHART / "files"
    stored = {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert stored == make_chart.files(), "run python tools/make_chart.py"


def test_versions_agree() -> None:
    """Chart, project, Helm's minimum, the Connect image and the default images have the versions of the sources."""
    chart = yaml.safe_load((make_chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((make_chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((make_chart.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    settings = VERSIONS["kubernetes"]
    assert chart["version"] == chart["appVersion"] == project
    assert chart["kubeVersion"] == f">={settings['minimum']}.0-0"
    assert values["images"]["services"] == f"saga-lab-services:{project}"
    assert values["images"]["connectStrimzi"] == f"saga-lab-connect:{project}"
    dockerfile = (make_chart.ROOT / "deploy" / "connect.Dockerfile").read_text(encoding="utf-8")
    images, debezium = settings["images"], settings["debezium"]
    for pinned in (images["strimzi"], images["maven"], debezium["archive"], debezium["sha256"]):
        assert pinned in dockerfile
    assert VERSIONS["maven"]["debezium"] in settings["debezium"]["archive"]
    assert settings["images"]["strimzi"].endswith(
        f"{settings['operators']['strimzi']['version']}-kafka-{VERSIONS['maven']['kafka']}"
    )
    assert settings["operators"]["istio"]["version"] == VERSIONS["programs"]["istiod"]["version"]
    assert settings["operators"]["istio"]["definitions"].endswith(VERSIONS["programs"]["istiod"]["go"]["version"])


def test_operators_are_installed_in_the_versions_that_the_chart_is_checked_against() -> None:
    """The script, and the table of docs/kubernetes.md, name the version of each operator."""
    script = (make_chart.ROOT / "deploy" / "install-operators.sh").read_text(encoding="utf-8")
    table = (make_chart.ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    titles = {"cloudnative-pg": "CloudNativePG", "strimzi": "Strimzi", "istio": "Istio: base, cni, istiod"}
    titles |= {"prometheus-operator": "Prometheus' operator", "keda": "KEDA (optional)"}
    for operator, settings in VERSIONS["kubernetes"]["operators"].items():
        assert f"| {titles[operator]} | {settings['version']} |" in table
        assert re.search(rf"(--version |/v|cnpg-){re.escape(settings['version'])}\b", script), operator
    namespaces = yaml.safe_load((make_chart.CHART / "values.yaml").read_text(encoding="utf-8"))["networkPolicies"]
    for namespace in namespaces["namespaces"].values():
        assert f"| `{namespace}` |" in table


def test_every_service_and_version_is_deployed() -> None:
    """Each service of services.toml has its Deployments, Service, budget, policies and database, on the right ports."""
    templates = pod_templates()
    assert tuple(service.name for service in LIST) == SERVICES
    for service in LIST:
        for version in ("v1", *service.versions):
            template = templates[instance_name(service, version)]
            assert template["metadata"]["labels"]["version"] == version
            (container,) = template["spec"]["containers"]
            assert container["args"] == [service.name]
            assert container["image"] == "saga-lab-services:0.1.0"
            settings = environment(template)
            assert settings["LAB_SERVICE_VERSION"] == version
            assert settings["LAB_HTTP_PORT"] == str(container["ports"][0]["containerPort"]) == "8000"
            assert set(settings) - {"DATABASE_PASSWORD"} <= {variable(name) for name in Settings.model_fields}
        (port,) = of_kind("Service")[service.name]["spec"]["ports"]
        assert port["port"] == 8000
        for kind in ("PodDisruptionBudget", "NetworkPolicy", "AuthorizationPolicy", "ServiceAccount"):
            assert service.name in of_kind(kind), kind
        assert service.database in of_kind("Cluster")
        assert service.database in of_kind("NetworkPolicy")


def test_canary_has_no_pods_by_default() -> None:
    """A further version is deployed with no replicas, unless a value sets their number."""
    assert of_kind("Deployment")["order-v2"]["spec"]["replicas"] == 0
    assert of_kind("Deployment", "hpa")["order-v2"]["spec"]["replicas"] == 1


def test_topics_are_those_of_the_lab() -> None:
    """Strimzi and the plain mode's setup create the topics of topics.toml, with partitions and settings."""
    topics = {name: one["spec"] for name, one in of_kind("KafkaTopic").items()}
    assert set(topics) == set(TOPICS.names)
    assert {topic["partitions"] for topic in topics.values()} == {TOPICS.partitions}
    assert {name: topic["config"] for name, topic in topics.items() if "config" in topic} == TOPICS.config
    plan = json.loads(of_kind("ConfigMap", "plain")["setup"]["data"]["setup.json"])["topics"]
    assert plan["names"] == list(TOPICS.names)
    assert plan["partitions"] == TOPICS.partitions
    assert {name: config for name, config in plan["config"].items() if config} == TOPICS.config


def test_connectors_are_those_of_the_lab() -> None:
    """Each connector has the configuration of outbox-connector.json, but for its pause, and no password."""
    plan = json.loads(of_kind("ConfigMap", "plain")["setup"]["data"]["setup.json"])["connectors"]
    connectors = of_kind("KafkaConnector")
    assert set(connectors) == set(plan) == {connector_name(service.name) for service in LIST}
    for service in LIST:
        wanted = connector_config(DatabaseServer(f"{service.database}-rw", 5432, service.name, ""))
        spec = connectors[connector_name(service.name)]["spec"]
        found = {**spec["config"], "connector.class": spec["class"], "tasks.max": str(spec["tasksMax"])}
        assert found == {**wanted, "poll.interval.ms": "20"}
        assert plan[connector_name(service.name)] == {**wanted, "poll.interval.ms": "4"}
        assert spec["autoRestart"] == {"enabled": False}
        assert not [name for name in found if "password" in name]


def test_broker_settings_are_carried_over() -> None:
    """Every setting of server.properties reaches the broker, unless Strimzi sets it or it depends on the brokers."""
    source = make_chart.properties((CONFIG / "kafka" / "server.properties").read_text(encoding="utf-8"))
    config = of_kind("Kafka")["saga"]["spec"]["kafka"]["config"]
    assert config["group.min.session.timeout.ms"] == source["group.min.session.timeout.ms"]
    assert config["auto.create.topics.enable"] == "false"
    missing = {name for name in source if name not in config}
    assert missing == {
        "process.roles",
        "node.id",
        "controller.quorum.voters",
        "listeners",
        "advertised.listeners",
        "listener.security.protocol.map",
        "controller.listener.names",
        "inter.broker.listener.name",
        "log.dirs",
        "controller.quorum.request.timeout.ms",  # Strimzi refuses it
    }
    different = {name for name, value in source.items() if str(config.get(name, value)) != value}
    assert different == make_chart.BY_REPLICAS & set(source)
    small = of_kind("Kafka", "small")["saga"]["spec"]["kafka"]["config"]
    assert {name for name, value in source.items() if str(small.get(name, value)) != value} == set()
    plain = make_chart.properties(of_kind("ConfigMap", "plain")["kafka"]["data"]["server.properties"])
    assert set(plain) == set(source)


def test_worker_settings_are_carried_over() -> None:
    """Every setting of connect-distributed.properties reaches the worker, unless Strimzi sets it itself."""
    source = make_chart.properties((CONFIG / "connect" / "connect-distributed.properties").read_text(encoding="utf-8"))
    spec = of_kind("KafkaConnect", "small")["saga"]["spec"]
    names = {
        "group.id": "groupId",
        **{f"{kind}.storage.topic": f"{kind}StorageTopic" for kind in ("config", "offset", "status")},
    }
    found = {name: str(value) for name, value in spec["config"].items()}
    found |= {name: spec[field] for name, field in names.items()}
    assert {name: value for name, value in source.items() if found.get(name) != value}.keys() == {
        "bootstrap.servers",
        "listeners",
        "rest.advertised.host.name",
        "rest.advertised.port",
    }


def test_database_settings_are_carried_over() -> None:
    """Every setting of postgresql.conf reaches the clusters, but for those that the tool leaves out with a reason."""
    source = make_chart.properties((CONFIG / "postgres" / "postgresql.conf").read_text(encoding="utf-8"))
    for cluster in of_kind("Cluster").values():
        parameters = cluster["spec"]["postgresql"]["parameters"]
        assert {name for name in source if name not in parameters} == set(make_chart.DATABASE_LEFT_OUT)
        assert all(parameters[name] == source[name].strip("'") for name in source if name in parameters)


def test_slots_survive_a_failover() -> None:
    """Each cluster is PostgreSQL 17 or newer, makes a failover slot, and synchronizes it to its standbys."""
    for name, cluster in of_kind("Cluster").items():
        spec = cluster["spec"]
        major = re.search(r":(\d+)", spec["imageName"])
        assert major
        assert int(major.group(1)) >= 17
        assert spec["replicationSlots"]["highAvailability"] == {"enabled": True, "synchronizeLogicalDecoding": True}
        assert spec["postgresql"]["parameters"]["sync_replication_slots"] == "on"
        assert spec["postgresql"]["parameters"]["hot_standby_feedback"] == "on"
        references = spec["bootstrap"]["initdb"]["postInitApplicationSQLRefs"]["configMapRefs"]
        assert [reference["key"] for reference in references] == ["slot.sql", "roles.sql"]
        setup = of_kind("ConfigMap")[f"{name}-setup"]["data"]
        assert "failover => true" in setup["slot.sql"]
        assert "${" not in setup["roles.sql"]


def test_roles_are_those_of_the_lab() -> None:
    """The operator manages the roles of roles.sql with their attributes, each with a Secret of its own name."""
    for service in LIST:
        roles = {role["name"]: role for role in of_kind("Cluster")[service.database]["spec"]["managed"]["roles"]}
        assert set(roles) == {service.name, "relay", "reader", "operator"}
        assert {name for name, role in roles.items() if role["replication"]} == {"relay", "operator"}
        assert service.name in roles["operator"]["inRoles"]
        for name, role in roles.items():
            secret = of_kind("Secret")[role["passwordSecret"]["name"]]
            assert secret["stringData"]["username"] == name
    passwords = [one["stringData"]["password"] for one in of_kind("Secret").values() if "password" in one["stringData"]]
    assert len(set(passwords)) == len(passwords) == 16
    logins = of_kind("Secret")["connect-pgpass"]["stringData"]["pgpass"].splitlines()
    for service, login in zip(LIST, logins, strict=True):
        password = of_kind("Secret")[f"{service.database}-relay"]["stringData"]["password"]
        assert login == f"{service.database}-rw:5432:*:relay:{password}"


def test_secrets_of_the_script_are_those_of_the_chart() -> None:
    """`deploy/make_secrets.py` makes the Secrets that the chart would, with the same keys and other passwords."""
    command = [sys.executable, str(make_chart.ROOT / "deploy" / "make_secrets.py")]
    items = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["items"]
    made = {item["metadata"]["name"]: item for item in items}
    rendered = of_kind("Secret")
    assert set(made) == set(rendered)
    for name, secret in made.items():
        assert set(secret["stringData"]) == set(rendered[name]["stringData"])
        assert secret["type"] == rendered[name].get("type", "Opaque")
        assert secret["stringData"].get("username") == rendered[name]["stringData"].get("username")
        assert secret["stringData"] != rendered[name]["stringData"]


def test_istio_documents_are_those_of_the_lab() -> None:
    """Gateway, routes, circuit breakers and limits are the lab's own documents."""
    sources = [*(CONFIG / "istio").glob("*.yaml"), CONFIG / "envoy" / "limits.yaml"]
    for source in sources:
        if source.name == "mesh.yaml":
            continue
        for document in yaml.load_all(source.read_text(encoding="utf-8"), yaml.CSafeLoader):
            rendered = of_kind(document["kind"])[document["metadata"]["name"]]
            assert rendered["spec"] == document["spec"], source
            assert "namespace" not in rendered["metadata"]


def test_mesh_refuses_everything_but_the_routes_of_the_gateway() -> None:
    """mTLS is STRICT, nothing is allowed by default, and a service answers the gateway on its own paths only."""
    assert of_kind("PeerAuthentication")["saga-lab"]["spec"] == {"mtls": {"mode": "STRICT"}}
    policies = of_kind("AuthorizationPolicy")
    assert policies["deny-by-default"]["spec"] == {}
    for service in LIST:
        (rule,) = policies[service.name]["spec"]["rules"]
        assert rule["from"] == [{"source": {"principals": ["cluster.local/ns/saga-lab/sa/gateway"]}}]
        assert rule["to"] == [
            {"operation": {"paths": [word for path in service.paths for word in (path, f"{path}/*")]}}
        ]
    assert pod_templates()["gateway"]["spec"]["serviceAccountName"] == "gateway"


def test_rules_and_dashboards_are_those_of_the_lab() -> None:
    """Each rule and each dashboard of the lab is in the chart, unchanged."""
    groups = of_kind("PrometheusRule")["saga-lab"]["spec"]["groups"]
    rendered = [rule for group in groups for rule in group["rules"]]
    sources = sorted((CONFIG / "prometheus").glob("*.rules.yml"))
    wanted = [
        rule
        for source in sources
        for group in yaml.safe_load(source.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    assert rendered == wanted
    for source in (CONFIG / "grafana" / "dashboards").glob("*.json"):
        stored = of_kind("ConfigMap")[f"dashboard-{source.stem}"]["data"][source.name]
        assert json.loads(stored) == json.loads(source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("variant", ["default", "no mesh"])
def test_scrape_jobs_have_the_names_that_the_dashboards_use(variant: str) -> None:
    """Each monitor sets the job's name of prometheus.yml, and the services' labels `service` and `version`."""
    document = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in document["scrape_configs"]} - {"prometheus"}
    found = {}
    for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        for monitor in of_kind(kind, variant).values():
            (endpoint,) = monitor["spec"][field]
            targets = {rule["targetLabel"]: rule for rule in endpoint["relabelings"] if "targetLabel" in rule}
            found[targets["job"]["replacement"]] = targets
    assert set(found) == jobs - ({"gateway"} if variant == "no mesh" else set())
    assert found["services"]["service"]["sourceLabels"] == ["__meta_kubernetes_pod_label_app"]
    assert found["services"]["version"]["sourceLabels"] == ["__meta_kubernetes_pod_label_version"]


def test_autoscalers_follow_the_consumer_group_of_each_service() -> None:
    """KEDA scales each service by its own group's lag; then the Deployment has no number of replicas."""
    objects = of_kind("ScaledObject", "keda")
    assert set(objects) == {service.name for service in LIST}
    for name, scaled in objects.items():
        (trigger,) = scaled["spec"]["triggers"]
        assert trigger["metadata"]["consumerGroup"] == name
        assert trigger["metadata"]["lagThreshold"] == "7"
        assert trigger["metadata"]["bootstrapServers"] == "saga-kafka-bootstrap.saga-lab.svc:9092"
        assert scaled["spec"]["maxReplicaCount"] <= TOPICS.partitions
        assert "replicas" not in of_kind("Deployment", "keda")[name]["spec"]
    assert set(of_kind("HorizontalPodAutoscaler", "hpa")) == set(objects)
    assert not of_kind("ScaledObject")


def test_images_are_those_of_the_versions_file() -> None:
    """Each image that a registry has is the one of versions.toml; the two others are named as built here."""
    images = {c["image"] for template in pod_templates("plain").values() for c in template["spec"]["containers"]}
    official = {make_chart.image(name) for name in ("kafka", "connect", "jaeger")}
    assert images == {*official, "saga-lab-services:0.1.0", "auto"}
    assert of_kind("Prometheus")["saga-lab"]["spec"]["image"] == make_chart.image("prometheus")
    assert of_kind("KafkaConnect")["saga"]["spec"]["image"] == "saga-lab-connect:0.1.0"
    assert of_kind("Kafka")["saga"]["spec"]["kafka"]["version"] == VERSIONS["maven"]["kafka"]
