"""The chart refuses wrong values, and its message names the value and the accepted ones."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.deploy.rendering import SECRET, VARIANTS, documents, refusal
from tools import make_chart

SCHEMA = json.loads((make_chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
PLAIN = ("-f", str(make_chart.CHART / "values-plain.yaml"))

REFUSED = {
    "a misspelt key": ("servces.replicas=2", "additional properties 'servces' not allowed"),
    "a misspelt nested key": ("kafka.broker=3", "at '/kafka': additional properties 'broker' not allowed"),
    "another choice": ("kafka.mode=confluent", "at '/kafka/mode': value must be one of 'strimzi', 'plain'"),
    "another type": ("services.replicas=many", "at '/services/replicas': got string, want integer"),
    "a number below the range": ("database.instances=0", "at '/database/instances': minimum: got 0, want 1"),
    "more consumers than partitions": ("autoscaling.maxReplicas=5", "maximum: got 5, want 4"),
    "an image without a version": ("images.services=saga-lab-services", "at '/images/services': 'saga-lab-services'"),
    "an amount without a unit's sense": ("services.resources.requests.memory=lots", "/memory': 'lots' does not match"),
    "a service that does not exist": ("services.overrides.billing.replicas=1", "'billing' not allowed"),
    "a version that does not exist": ("services.canaries.payment-v2=1", "'payment-v2' not allowed"),
    "a setting of another program": ("services.settings.LOG_LEVEL=debug", "invalid propertyName 'LOG_LEVEL'"),
    "a short secret": ("database.secret=tea", "at '/database/secret': 'tea' does not match"),
    "a secret that a URL would change": ("database.secret=0123456789abcdef@host", "at '/database/secret'"),
    "a slow scrape": ("monitoring.interval=30s", "at '/monitoring/interval': '30s' does not match"),
    "an endpoint without a scheme": ("tracing.endpoint=collector:4318", "at '/tracing/endpoint'"),
    "a schedule without seconds": ("database.backup.schedule=0 2 * * *", "at '/database/backup/schedule'"),
    "a storage size without a unit": ("kafka.storage.size=five", "at '/kafka/storage/size': 'five' does not match"),
    "two sources of passwords": ("database.existingSecrets=true", "database.secret and database.existingSecrets"),
    "two collectors": ("tracing.endpoint=http://collector:4318", "set tracing.jaeger=false to send"),
    "bounds in the wrong order": (
        "autoscaling.minReplicas=3,autoscaling.maxReplicas=2",
        "lower one or raise",
    ),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_value_is_refused(value: str, message: str) -> None:
    """Each kind of wrong value is refused, with a message that names the value."""
    option = "--set-string" if " " in value else "--set"
    assert message in refusal(*SECRET, option, value)


def test_more_brokers_than_the_plain_mode_has_are_refused() -> None:
    """`kafka.mode: plain` has one broker."""
    assert "at '/kafka/brokers': value must be 1" in refusal(*SECRET, *PLAIN, "--set", "kafka.brokers=3")


def test_missing_secret_is_refused() -> None:
    """Without passwords nothing is rendered, and the message explains how to make a secret."""
    assert "openssl rand -hex 16" in refusal()


@pytest.mark.parametrize("variant", VARIANTS)
def test_valid_values_are_accepted(variant: str) -> None:
    """The values of every variant are accepted."""
    assert documents(variant)


def test_schema_describes_every_value() -> None:
    """Every value of `values.yaml` has an entry in the schema, and the schema has no further ones."""
    values = yaml.safe_load((make_chart.CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(schema: dict[str, object], value: object, path: str) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict) and value:
            assert isinstance(value, dict), path
            assert schema["additionalProperties"] is False, path
            assert set(properties) - {"global"} == set(value), path
            for name, inner in value.items():
                compare(properties[name], inner, f"{path}.{name}")

    compare(SCHEMA, values, "")


def test_schema_knows_the_services_and_the_partitions() -> None:
    """The schema's services, versions and greatest number of consumers are those of the sources."""
    facts = make_chart.facts()
    names = {service["name"] for service in facts["services"]}
    properties = SCHEMA["properties"]
    assert set(properties["services"]["properties"]["overrides"]["properties"]) == names
    assert set(properties["database"]["properties"]["restoreFrom"]["properties"]) == names
    canaries = {f"{s['name']}-{version}" for s in facts["services"] for version in s["versions"] if version != "v1"}
    assert set(properties["services"]["properties"]["canaries"]["properties"]) == canaries
    (partitions,) = {topic["partitions"] for topic in facts["topics"]}
    assert SCHEMA["$defs"]["replicas"]["maximum"] == partitions
    assert properties["autoscaling"]["properties"]["maxReplicas"]["maximum"] == partitions
