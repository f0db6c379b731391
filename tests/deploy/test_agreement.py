"""The manifests agree with the code: commands, settings, ports, probes, stops and topics."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import httpx
import pytest
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from connectors.nylas.simulator import World as Nylas
from connectors.nylas.simulator import app as nylas_app
from connectors.salesforce.simulator.server import app as salesforce_app
from connectors.salesforce.simulator.world import World as Salesforce
from deploy.kubernetes.generator.manifests import Manifest
from streams import settings
from streams.cli import UnusableSetting, main
from streams.console.access import gatekeeper
from streams.runtime.exit_codes import ExitCode
from streams.runtime.ops import OPS_REQUEST_SECONDS, Health, OpsServer
from tests.support.manifests import (
    COMBINATIONS,
    Pod,
    environment,
    of_kind,
    pod,
    pods,
    selects,
    the,
)
from tests.support.stop_bounds import grace_seconds

PRODUCTION = "overlays/production"
STAGES = ("bridge", "dedupe", "reader", "sink", "console")
EVERY_COMBINATION = pytest.mark.parametrize("combination", COMBINATIONS)
EVERY_STAGE = pytest.mark.parametrize("stage", STAGES)

SECRETS = "/run/secrets/contactstream/"

# What each pod may read, by its volumes. All of them may reach Kafka.
SECRETS_OF = {
    "bridge": {"nylas-webhook"},
    "dedupe": set(),
    "reader": {"nylas"},
    "sink": {"salesforce", "suppression"},
    "console": {"console", "nylas", "salesforce", "suppression"},
    "topics": set(),
    "backfill": set(),
    "replay": set(),
    "operator": {"nylas", "salesforce", "suppression"},
}

# These never read the mapping, which a setting of all processes names.
NO_MAPPING = ("bridge", "reader", "topics", "backfill")


def our_containers(combination: str) -> Iterator[tuple[Pod, Manifest]]:
    """Every container of our image."""
    for each in pods(combination):
        for container in each.containers:
            if "contactstream" in container["image"]:
                yield each, container


@EVERY_COMBINATION
def test_a_container_runs_a_command_that_exists(combination: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("something")
    for each, container in our_containers(combination):
        assert "command" not in container, each.name
        name, *words = [re.sub(r"=/.*", f"={file}", word) for word in container["args"]]
        command: click.Command = main.commands[name]
        while isinstance(command, click.Group):
            name, *words = words
            command = command.commands[name]
        command.make_context(name, words)  # raises for options that it does not have


@EVERY_COMBINATION
def test_every_variable_is_a_setting(combination: str) -> None:
    for each, container in our_containers(combination):
        given = dict(environment(combination, container))
        assert settings.unknown_variables(given) == [], each.name


def mounted(container: Manifest, path: str) -> str:
    """The volume that a path of a container lies on. Fails when it lies on none."""
    for mount in container["volumeMounts"]:
        if path.startswith(mount["mountPath"] + "/"):
            return str(mount["name"])
    pytest.fail(f"{container['name']}: {path} lies on no volume")


@pytest.fixture(scope="module")
def certificate_and_key() -> tuple[str, str]:
    """A certificate that signed itself, and its key, both in PEM format."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contactstream")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(pem).decode(), private.decode()


@EVERY_COMBINATION
def test_every_setting_can_be_used(
    combination: str, tmp_path: Path, certificate_and_key: tuple[str, str]
) -> None:
    certificate, key = certificate_and_key
    contents = {
        "KAFKA_SSL_CA_LOCATION": certificate,
        "KAFKA_SSL_CERTIFICATE_LOCATION": certificate,
        "KAFKA_SSL_KEY_LOCATION": key,
    }
    for each, container in our_containers(combination):
        given = dict(environment(combination, container))
        for variable, value in given.items():
            if not value.startswith(("/run/", "/etc/")):
                continue
            if variable == "SALESFORCE_MAPPING_FILE" and each.component in NO_MAPPING:
                continue
            volume = mounted(container, value)
            assert volume in {one["name"] for one in each.spec["volumes"]}, each.name
            file = tmp_path / f"{each.component}-{variable}"
            file.write_text(contents.get(variable, "something"))
            given[variable] = str(file)
        for group in settings.GROUPS:
            settings.load(group, given)  # raises SettingsError


@EVERY_COMBINATION
def test_no_secret_is_a_plain_value(combination: str) -> None:
    secret = {
        f"{group.prefix}_{name}".upper()
        for group in settings.GROUPS
        for name, field in group.model_fields.items()
        if field.annotation is SecretStr or "SecretStr" in str(field.annotation)
    }
    assert "NYLAS_WEBHOOK_SECRETS" in secret
    for each, container in our_containers(combination):
        plain = {name for name, value in environment(combination, container) if value}
        assert plain & secret == set(), each.name


@pytest.mark.parametrize("component", sorted(SECRETS_OF))
def test_a_pod_reads_only_its_own_secrets(component: str) -> None:
    found = pod(PRODUCTION, component)
    role = component if component in (*STAGES, "topics") else "operator"
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in found.spec["volumes"]
        if "secret" in volume
    }
    assert secrets.pop("kafka") == f"contactstream-kafka-{role}"
    assert secrets == {name: f"contactstream-{name}" for name in SECRETS_OF[component]}
    mounts = {each["name"]: each["mountPath"] for each in found.main["volumeMounts"]}
    for name in (*secrets, "kafka"):
        assert mounts[name] == SECRETS + name


def test_the_secrets_of_the_dev_overlay_have_the_files_that_the_settings_name() -> None:
    dev = "overlays/dev"
    for each, container in our_containers(dev):
        secrets = {
            volume["name"]: the(dev, "Secret", volume["secret"]["secretName"])
            for volume in each.spec["volumes"]
            if "secret" in volume and not volume["secret"].get("optional")
        }
        for variable, value in environment(dev, container):
            if value.startswith(SECRETS):
                keys = secrets[mounted(container, value)]["data"]
                assert value.rpartition("/")[2] in keys, f"{each.name}: {variable}"


@EVERY_STAGE
def test_the_ports_are_those_that_the_process_listens_on(stage: str) -> None:
    container = pod(PRODUCTION, stage).main
    given = {
        name: value
        for name, value in environment(PRODUCTION, container)
        if not name.endswith("_FILE")
    }
    listens = {"ops": settings.load(settings.ProcessSettings, given).listen}
    if stage == "bridge":
        listens["http"] = settings.load(settings.BridgeSettings, given).listen
    if stage == "console":
        listens["http"] = settings.load(settings.ConsoleSettings, given).listen
    assert {each["name"]: f"0.0.0.0:{each['containerPort']}" for each in container["ports"]} == (
        listens
    )


def test_browsers_reach_the_console_by_a_forwarded_port() -> None:
    container = pod(PRODUCTION, "console").main
    given = {"CONSOLE_LISTEN": dict(environment(PRODUCTION, container))["CONSOLE_LISTEN"]}
    (port,) = the(PRODUCTION, "Service", "contactstream-console")["spec"]["ports"]
    loaded = settings.load(settings.ConsoleSettings, given)
    keeper = gatekeeper(loaded, "0123456789abcdef", "operator", port["port"])
    assert f"localhost:{port['port']}" in keeper.hosts


def probes(container: Manifest) -> dict[str, Manifest]:
    return {name: container[name] for name in container if name.endswith("Probe")}


@EVERY_STAGE
def test_the_probes_ask_what_the_process_answers(stage: str) -> None:
    health = Health(stalled_after=60)
    server = OpsServer("127.0.0.1:0", CollectorRegistry(), health)
    server.start()
    try:
        for name, probe in probes(pod(PRODUCTION, stage).main).items():
            assert probe["httpGet"]["port"] == "ops"
            assert probe["timeoutSeconds"] <= OPS_REQUEST_SECONDS
            url = f"http://127.0.0.1:{server.port}{probe['httpGet']['path']}"
            starting = httpx.get(url, timeout=10).status_code
            # A process that still waits for a broker is alive and not ready.
            assert starting == (503 if name == "readinessProbe" else 200)
    finally:
        server.stop()


@pytest.mark.parametrize("service", ["nylas", "salesforce"])
async def test_the_probes_of_the_simulators_ask_what_they_answer(service: str) -> None:
    made = nylas_app(Nylas.from_json({})) if service == "nylas" else salesforce_app(Salesforce())
    async with TestServer(made) as server, httpx.AsyncClient() as http:
        for probe in probes(pod("overlays/dev", f"{service}-simulator").main).values():
            answer = await http.get(str(server.make_url(probe["httpGet"]["path"])))
            assert answer.status_code == 200


@EVERY_STAGE
def test_the_grace_period_is_enough_for_an_orderly_stop(stage: str) -> None:
    found = pod(PRODUCTION, stage)
    before = found.main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert found.spec["terminationGracePeriodSeconds"] == before + grace_seconds(stage)


def test_a_setting_that_cannot_be_used_fails_the_job_of_the_topics_at_once() -> None:
    job = the(PRODUCTION, "Job", "contactstream-topics")
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [UnusableSetting.exit_code]
    assert UnusableSetting.exit_code not in list(ExitCode)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


@EVERY_COMBINATION
def test_no_worker_of_dedupe_has_no_partition(combination: str) -> None:
    found = pod(combination, "dedupe")
    given = dict(environment(combination, found.main))
    wanted = int(given.get("KAFKA_EVENTS_PARTITIONS", "4"))
    assert found.workload["spec"]["replicas"] <= wanted
    for topic in of_kind(combination, "KafkaTopic"):
        if topic["metadata"]["name"] == "contacts.events":
            assert topic["spec"]["partitions"] == wanted


def test_the_table_of_dedupe_needs_no_volume() -> None:
    text = (Path(__file__).parents[2] / "streams" / "dedupe" / "faust_batches.py").read_text()
    assert 'store="memory://"' in text
    assert "volumeClaimTemplates" not in pod(PRODUCTION, "dedupe").workload["spec"]


def test_sink_and_reader_have_a_hot_standby() -> None:
    for stage in ("sink", "reader"):
        assert pod(PRODUCTION, stage).workload["spec"]["replicas"] == 2


def test_every_user_of_kafka_gets_a_certificate() -> None:
    strimzi = "tests/strimzi"
    users = {each["metadata"]["name"] for each in of_kind(strimzi, "KafkaUser")}
    wanted = {
        volume["secret"]["secretName"]
        for each in pods(strimzi)
        for volume in each.spec["volumes"]
        if volume["name"] == "kafka"
    }
    assert users == wanted
    (cluster,) = {
        each["metadata"]["labels"]["strimzi.io/cluster"]
        for each in of_kind(strimzi, "KafkaUser", "KafkaTopic")
    }
    for each, container in our_containers(strimzi):
        given = dict(environment(strimzi, container))
        assert given["KAFKA_BOOTSTRAP_SERVERS"].startswith(f"{cluster}-kafka-bootstrap:")
        (authority,) = [one for one in each.spec["volumes"] if one["name"] == "kafka-ca"]
        assert authority["secret"]["secretName"] == f"{cluster}-cluster-ca-cert"


def test_prometheus_reads_every_process_and_nothing_else() -> None:
    everything = "tests/everything"
    (monitor,) = of_kind(everything, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    read = {
        each.component
        for each in pods(everything)
        if selects(monitor["spec"]["selector"], each.labels)
        and endpoint["port"] in {port["name"] for port in each.main.get("ports", ())}
    }
    assert read == set(STAGES)
