"""Every stage on a Kafka with TLS, a login and the authorizer, allowed exactly what it needs."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from deploy.local.broker import free_ports
from streams import cli
from streams.acls import ROLES, role_acls
from streams.commands.publishing import CommandPublisher
from streams.kafka.access import Acl, ResourceKind
from streams.kafka.admin import create
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.kafka.records import KafkaRecord
from streams.runtime.exit_codes import ExitCode
from streams.runtime.secret_files import CHECK_SECONDS, SPREAD_SECONDS
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.dedupe_load import event
from tests.support.kafka import Kafka
from tests.support.processes import START_SECONDS, STOP_SECONDS, Processes
from tests.support.product import GRANT, SECRET, person, product, updated
from tests.support.secret_volume import SecretVolume
from tests.support.secured_kafka import LOGINS, PASSWORD, Login, SecuredKafka, secured_kafka
from tests.support.token_server import LONG_TOKEN_SECONDS
from tests.support.waiting import wait_until
from tests.support.webhooks import sign

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.timeout(600)]

STAGES = ("bridge", "reader", "dedupe", "sink")
USERS = tuple(ROLES)
NOW = 1_790_000_000
# So that several pass during a test; a client renews them after four fifths of it.
TOKEN_SECONDS = 8.0
# An org that is never asked: the sink waits for changes, and the reader for runs.
ORG = {
    "SALESFORCE_LOGIN_URL": "http://127.0.0.1:1",
    "SALESFORCE_MODE": "mirror",
    "SALESFORCE_CLIENT_ID": "test",
    "SALESFORCE_CLIENT_SECRET": "test",
    "NYLAS_API_URL": "http://127.0.0.1:1",
    "NYLAS_API_KEY": "test",
}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all tests of this module."""
    with secured_kafka(tmp_path_factory.mktemp("secured"), USERS) as running:
        for user in USERS:
            running.add_scram_user(user)
        yield running


@dataclass(frozen=True, slots=True)
class Deployment:
    """A topic prefix of a test, and users that are named as their roles."""

    secured: SecuredKafka
    kafka: Kafka
    """For the test itself, which may do everything."""

    @property
    def settings(self) -> KafkaSettings:
        return load(KafkaSettings, self.kafka.environ)

    def environ(self, login: Login, role: str) -> dict[str, str]:
        """The settings by which a role logs in."""
        return self.secured.environ(login, role) | {"KAFKA_TOPIC_PREFIX": self.kafka.prefix}

    def grant(self, *roles: str) -> None:
        """Allows each role what it needs, and nothing else."""
        for role in roles:
            self.secured.delete_acls(role)
            self.secured.grant(role, role_acls(self.settings, role))


@pytest.fixture
def deployment(secured: SecuredKafka) -> Iterator[Deployment]:
    """A deployment of its own for each test; its topics are deleted at the end."""
    kafka = Kafka(secured.broker.direct, f"t{uuid.uuid4().hex[:8]}.")
    yield Deployment(secured, kafka)
    kafka.delete_all()
    for user in USERS:
        secured.delete_acls(user)


def test_the_whole_flow_works_by_scram_with_exactly_its_acls_and_a_refusal_loses_nothing(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.grant(*STAGES)
    environ = {stage: deployment.environ("SCRAM", stage) for stage in STAGES}
    grants = [{"id": GRANT, "email": "rep@our-team.example", "contacts": [person("b", "b@x.de")]}]
    with product(
        deployment.kafka, tmp_path, org={}, grants=grants, stage_environ=environ
    ) as running:
        running.notify([updated(person("a", "ada@engines.example"), NOW, "n1")])
        assert running.outcome("a", NOW)["outcome"] == "created"
        assert all("uthorization" not in stage.log for stage in running.stages.values())

        outcomes = deployment.kafka.name("contacts.outcomes")
        sink = running.stages.pop("sink")
        deployment.secured.revoke("sink", Acl("topic", outcomes, ("Write",)))
        running.notify(
            [updated(person("a", "ada@engines.example", job_title="Lady"), NOW + 5, "n2")]
        )
        wait_until(lambda: sink.exit_code is not None, "the end of the sink", START_SECONDS)
        assert sink.exit_code == ExitCode.KAFKA_REFUSED
        assert outcomes in sink.log.splitlines()[-1]

        deployment.grant("sink")
        running.stages["sink"] = running.processes.start("sink", environ=environ["sink"])
        assert running.outcome("a", NOW + 5)["outcome"] in ("updated", "unchanged")
        for stage in running.stages.values():
            assert stage.stop() == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_lacks_one_operation_on_a_topic_says_which_and_how_to_grant_it(
    deployment: Deployment, stage: str
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    kafka = load(KafkaSettings, deployment.environ("SCRAM", stage))
    needed = role_acls(kafka, stage)
    names = [topic.name for topic in topics(kafka).all() if _covered(needed, topic.name)]
    tried = 0
    for acl in needed:
        for operation in acl.operations if acl.kind == "topic" else ():
            deployment.secured.delete_acls(stage)
            deployment.secured.grant(stage, _without(needed, acl, operation))
            said = wait_until(lambda: _what_is_missing(kafka, names, needed), "a refusal")
            topic = next(name for name in names if acl.covers("topic", name))
            assert f"{operation} on the topic {topic}" in said or (
                f"{operation} and " in said and f" on the topic {topic}" in said
            )
            assert f"--allow-principal 'User:{stage}'" in said
            tried += 1
    deployment.grant(stage)
    wait_until(lambda: not _what_is_missing(kafka, names, needed), "everything is allowed")
    assert tried >= 8


def _covered(acls: list[Acl], topic: str) -> bool:
    return any(acl.covers("topic", topic) for acl in acls)


def _without(acls: list[Acl], which: Acl, operation: str) -> list[Acl]:
    """The ACLs without one operation of one of them."""
    return [
        replace(acl, operations=tuple(each for each in acl.operations if each != operation))
        if acl == which
        else acl
        for acl in acls
    ]


def _what_is_missing(kafka: KafkaSettings, names: list[str], needed: list[Acl]) -> str:
    """What a stage with these settings waits for at its start; empty when it goes on."""
    reasons: list[str] = []
    try:
        wait_for_broker(
            kafka, names, stopped=lambda: False, waiting=reasons.append, deadline=0.0, needs=needed
        )
    except BrokerUnavailable as error:
        return str(error)
    return ""


@pytest.mark.parametrize("login", LOGINS)
def test_every_client_works_by_each_kind_of_login(
    deployment: Deployment, processes: Processes, login: Login
) -> None:
    deployment.grant("topics", "bridge", "dedupe", "operator")
    environ = {role: deployment.environ(login, role) for role in ("topics", "bridge", "dedupe")}
    created = CliRunner().invoke(cli.main, ["topics", "create"], env=environ["topics"])
    assert created.exit_code == 0, created.output
    worker = processes.start("dedupe", environ=environ["dedupe"]).wait_ready()
    publish_once(load(KafkaSettings, environ["bridge"]), 1)
    wait_until(lambda: len(deployment.kafka.read("contacts.changes")) == 1, "the change")
    checked = CliRunner().invoke(
        cli.main, ["explain", "g1/c1"], env=deployment.environ(login, "operator") | ORG
    )
    assert "g1/c1" in checked.output, checked.output
    assert worker.stop() == 0


def publish_once(kafka: KafkaSettings, version: int) -> None:
    """Publishes an event of one contact, as the bridge would, with a client of its own."""
    with CommandPublisher(kafka) as publisher:
        publish(publisher, kafka, version)


def publish(publisher: CommandPublisher, kafka: KafkaSettings, version: int) -> None:
    """Publishes an event of one contact."""
    key, value = event(1, version)
    headers: list[tuple[str, str | bytes | None]] = [
        ("origin", b"webhook"),
        ("received_ms", b"1700000000000"),
    ]
    publisher.publish([KafkaRecord(topics(kafka).events.name, key, value, headers)])


def run(environ: dict[str, str], command: str) -> str:
    """What a command prints, which must succeed."""
    done = CliRunner().invoke(cli.main, command.split(), env=environ)
    assert done.exit_code == 0, f"{command}: {done.exit_code}\n{done.output}"
    return done.output


def test_operators_can_do_what_they_do_with_their_acls(deployment: Deployment) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("operator", "bridge")
    publish_once(load(KafkaSettings, deployment.environ("SCRAM", "bridge")), 1)
    environ = deployment.environ("SCRAM", "operator") | ORG
    for command in (
        "review",
        "outcomes --addresses",
        "undo --since 1h",
        "audit",
        "dead-letters list",
        "explain g1/c1",
        "breakers",
        "deletions lift --key g1/c1 --execute",
        "replay events --no-wait",
        "replay events --yes --execute --no-wait --actor me",
        "plan --since 1h",
        "export g1/c1",
        "suppress ada@engines.example",
    ):
        run(environ, command)
    assert "backfill" in run(environ, "backfill --all --no-wait")
    assert "backfill" in run(environ, "runs")
    assert [found.value for found in deployment.kafka.read("contactstream.audit")] != []
    examined = CliRunner().invoke(cli.main, ["doctor"], env=environ).output
    every = len(topics(deployment.settings).all())
    assert f"ok   topics: all {every} exist, with their policies and partitions" in examined
    assert "ok   offsets of sink: inside the log" in examined


def test_another_generation_of_dedupe_takes_over_with_the_acls_for_it(
    deployment: Deployment, processes: Processes
) -> None:
    deployment.grant("topics", "dedupe", "dedupe-state")
    environ = deployment.environ("SCRAM", "topics")
    run(environ, "topics create")
    run(environ, "topics check")
    dedupe = deployment.environ("SCRAM", "dedupe")
    assert processes.start("dedupe", environ=dedupe).wait_ready().stop() == 0
    environ = deployment.environ("SCRAM", "dedupe-state")
    new = environ | {"KAFKA_DEDUPE_GENERATION": "2"}
    changelog = topics(load(KafkaSettings, new)).seen_changelog
    create(AdminClient(client_config(load(KafkaSettings, new))), [changelog])
    run(environ, "dedupe-state prepare --to 2 --execute")
    run(environ, "dedupe-state switch --to 2 --execute")
    assert "2" in run(new, "dedupe-state")
    live = processes.start("dedupe", environ=dedupe | {"KAFKA_DEDUPE_GENERATION": "2"})
    live.wait_ready()


def test_the_console_shows_its_pages_with_its_acls(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("console")
    (port,) = free_ports(1)
    environ = deployment.environ("SCRAM", "console") | ORG
    console = processes.start("console", environ=environ | {"CONSOLE_LISTEN": f"127.0.0.1:{port}"})
    console.wait_ready()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        for page in ("/", "/people", "/grants", "/runs", "/dead-letters", "/health"):
            answer = http.get(page)
            assert answer.status_code == 200, page
            assert "uthorization" not in answer.text, page
    assert "uthorization" not in console.log


def test_a_wrong_password_is_named_by_the_probe(
    deployment: Deployment, processes: Processes
) -> None:
    environ = deployment.environ("SCRAM", "bridge") | {"KAFKA_SASL_PASSWORD": "wrong"}
    environ |= {"BRIDGE_LISTEN": f"127.0.0.1:{free_ports(1)[0]}"}
    bridge = processes.start("bridge", environ=environ)
    wanted = "Authentication failed during authentication due to invalid credentials"
    wait_until(lambda: wanted in bridge.ask("/readyz")[1], "the reason", START_SECONDS)


def test_a_bridge_that_may_not_write_answers_503_and_says_why(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("bridge")
    (port,) = free_ports(1)
    environ = deployment.environ("SCRAM", "bridge") | {
        "BRIDGE_LISTEN": f"127.0.0.1:{port}",
        "NYLAS_WEBHOOK_SECRETS": SECRET,
    }
    bridge = processes.start("bridge", environ=environ).wait_ready()
    events = deployment.kafka.name("contacts.events")
    deployment.secured.revoke("bridge", Acl("topic", events, ("Write",)))
    _, body = event(1, 1)

    def notify() -> int:
        headers = {"X-Nylas-Signature": sign(body, SECRET)}
        answer = httpx.post(f"http://127.0.0.1:{port}/", content=body, headers=headers, timeout=30)
        return answer.status_code

    assert notify() == 503
    # Without Write there is no Describe either, and the broker says nothing of the topic.
    wanted = f"Write and DescribeConfigs on the topic {events}"
    wait_until(lambda: wanted in bridge.ask("/readyz")[1], "the reason", START_SECONDS)
    assert wanted in bridge.log
    deployment.grant("bridge")
    # Nylas sends again. The producer may take a moment longer than the check to see the grant.
    wait_until(lambda: notify() == 200, "the notification is taken", START_SECONDS)
    bridge.wait_ready()


@pytest.mark.parametrize("stage", ["reader", "dedupe", "sink"])
def test_a_stage_whose_group_is_refused_says_so_and_goes_on_once_it_is_granted(
    deployment: Deployment, processes: Processes, stage: str
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    needed = role_acls(deployment.settings, stage)
    deployment.secured.grant(stage, [acl for acl in needed if acl.kind != "group"])
    environ = deployment.environ("SCRAM", stage) | ORG
    process = processes.start(stage, environ=environ)
    group = f"{deployment.kafka.prefix}contactstream-{stage}"
    wanted = f"Read on the group {group}"
    wait_until(lambda: wanted in process.ask("/readyz")[1], "the reason", START_SECONDS)
    assert f"--operation Read --group '{group}' --resource-pattern-type prefixed" in process.log
    deployment.grant(stage)
    process.wait_ready()


@pytest.mark.parametrize("stage", ["reader", "dedupe", "sink"])
def test_a_stage_that_may_not_join_its_group_ends_and_names_what_it_needs(
    deployment: Deployment, processes: Processes, stage: str
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    needed = role_acls(deployment.settings, stage)
    (own,) = (acl for acl in needed if acl.kind == "group" and "Read" in acl.operations)
    describing = replace(own, operations=("Describe",))
    deployment.secured.grant(stage, [*(acl for acl in needed if acl != own), describing])
    process = processes.start(stage, environ=deployment.environ("SCRAM", stage) | ORG)
    wait_until(lambda: process.exit_code is not None, "the end of the stage", START_SECONDS)
    assert process.exit_code == ExitCode.KAFKA_REFUSED
    assert f"contactstream topics acls {stage} --format commands" in process.log


def test_a_sink_without_its_transactional_id_ends_and_names_it(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    needed = role_acls(deployment.settings, "sink")
    deployment.secured.grant("sink", [acl for acl in needed if acl.kind != "transactional-id"])
    sink = processes.start("sink", environ=deployment.environ("SCRAM", "sink") | ORG)
    wait_until(lambda: sink.exit_code is not None, "the end of the sink", START_SECONDS)
    assert sink.exit_code == ExitCode.KAFKA_REFUSED
    assert f"transactional.id {deployment.kafka.prefix}contactstream-sink-0" in sink.log
    assert "contactstream topics acls sink --format commands" in sink.log


@pytest.mark.parametrize("which", ["contacts.events", "contactstream-dedupe"])
def test_a_worker_that_may_not_read_any_more_ends_and_says_so(
    deployment: Deployment, processes: Processes, which: str
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("dedupe")
    worker = processes.start("dedupe", environ=deployment.environ("SCRAM", "dedupe")).wait_ready()
    kind: ResourceKind = "topic" if which == "contacts.events" else "group"
    name = deployment.kafka.name(which)
    (reading,) = (acl for acl in role_acls(deployment.settings, "dedupe") if acl.covers(kind, name))
    deployment.secured.revoke("dedupe", reading)
    wait_until(lambda: worker.exit_code is not None, "the end of the worker", START_SECONDS)
    assert worker.exit_code == ExitCode.KAFKA_REFUSED
    assert name in worker.log.splitlines()[-1]
    assert "contactstream topics acls dedupe" in worker.log.splitlines()[-1]


def test_a_worker_that_may_not_write_any_more_ends_and_its_successor_says_what_is_missing(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("bridge", "dedupe")
    bridge = load(KafkaSettings, deployment.environ("SCRAM", "bridge"))
    environ = deployment.environ("SCRAM", "dedupe")
    worker = processes.start("dedupe", environ=environ).wait_ready()
    changes = deployment.kafka.name("contacts.changes")
    (writing,) = (
        acl for acl in role_acls(deployment.settings, "dedupe") if acl.covers("topic", changes)
    )
    deployment.secured.revoke("dedupe", writing)
    publish_once(bridge, 1)
    wait_until(lambda: worker.exit_code is not None, "the end of the worker", START_SECONDS)
    assert worker.exit_code == ExitCode.KAFKA_REFUSED
    assert changes in worker.log.splitlines()[-1]
    successor = processes.start("dedupe", environ=environ)
    wanted = f"Write and DescribeConfigs on the topic {changes}"
    wait_until(lambda: wanted in successor.ask("/readyz")[1], "the reason", START_SECONDS)
    deployment.grant("dedupe")
    wait_until(lambda: len(deployment.kafka.read("contacts.changes")) == 1, "the change")


def test_tokens_are_renewed_before_they_expire(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("bridge", "dedupe")
    tokens = deployment.secured.tokens
    bridge = load(KafkaSettings, deployment.environ("OAUTHBEARER", "bridge"))
    tokens.lifetime = TOKEN_SECONDS
    try:
        with CommandPublisher(bridge) as publisher:
            before = len(tokens.issued)
            environ = deployment.environ("OAUTHBEARER", "dedupe")
            worker = processes.start("dedupe", environ=environ).wait_ready()
            publish(publisher, bridge, 1)
            # Each client renews its token: twice as many more, and no first one is valid any more.
            wanted = before + 3 * (len(tokens.issued) - before)
            wait_until(lambda: len(tokens.issued) >= wanted, "renewed tokens", START_SECONDS)
            publish(publisher, bridge, 2)
            wait_until(lambda: len(deployment.kafka.read("contacts.changes")) == 2, "both changes")
        assert worker.stop() == 0
    finally:
        tokens.lifetime = LONG_TOKEN_SECONDS


def test_a_new_certificate_restarts_the_worker_which_goes_on_with_it(
    deployment: Deployment, processes: Processes
) -> None:
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant("bridge", "dedupe")
    bridge = load(KafkaSettings, deployment.environ("MTLS", "bridge"))
    environ = deployment.environ("MTLS", "dedupe")
    worker = processes.start("dedupe", environ=environ).wait_ready()
    publish_once(bridge, 1)
    wait_until(lambda: len(deployment.kafka.read("contacts.changes")) == 1, "the change")
    deployment.environ("MTLS", "dedupe")  # issues another certificate into the same files
    bound = 2 * CHECK_SECONDS + SPREAD_SECONDS + STOP_SECONDS
    wait_until(lambda: worker.exit_code is not None, "the end of the worker", bound)
    assert worker.exit_code == ExitCode.SECRETS_CHANGED
    processes.start("dedupe", environ=environ).wait_ready()
    publish_once(bridge, 2)
    wait_until(lambda: len(deployment.kafka.read("contacts.changes")) == 2, "both changes")


def test_a_password_that_changes_in_its_secret_restarts_every_process_which_logs_in_with_it(
    deployment: Deployment, processes: Processes, tmp_path: Path
) -> None:
    """As on Kubernetes, where the files of a Secret change by the swap of a link."""
    roles = (*STAGES, "console")
    create(deployment.kafka.admin(), topics(deployment.settings).all())
    deployment.grant(*roles)
    volumes = {
        role: SecretVolume(tmp_path / role, {"username": role, "password": PASSWORD})
        for role in roles
    }
    environs = {role: with_login_of(volumes[role], deployment, role) for role in roles}
    running = {role: processes.start(role, environ=environs[role]) for role in roles}
    for process in running.values():
        process.wait_ready()

    for role, volume in volumes.items():
        volume.write({"username": role, "password": "the-next-password"})
    bound = 2 * CHECK_SECONDS + SPREAD_SECONDS + STOP_SECONDS
    for role, process in running.items():
        assert process.popen.wait(bound) == ExitCode.SECRETS_CHANGED, process.log[-3000:]
        assert volumes[role].path("password") in process.log
        assert "the-next-password" not in process.log
    again = [processes.start(role, environ=environs[role]) for role in roles]
    try:
        for role in roles:
            deployment.secured.add_scram_user(role, "the-next-password")
        for process in again:
            process.wait_ready()
    finally:
        for role in roles:
            deployment.secured.add_scram_user(role)


def with_login_of(volume: SecretVolume, deployment: Deployment, role: str) -> dict[str, str]:
    """The settings of a process whose login at Kafka is in the volume of a Secret."""
    environ = deployment.environ("SCRAM", role) | ORG
    del environ["KAFKA_SASL_USERNAME"], environ["KAFKA_SASL_PASSWORD"]
    bridge, console = free_ports(2)
    return environ | {
        "KAFKA_SASL_USERNAME_FILE": volume.path("username"),
        "KAFKA_SASL_PASSWORD_FILE": volume.path("password"),
        "BRIDGE_LISTEN": f"127.0.0.1:{bridge}",
        "CONSOLE_LISTEN": f"127.0.0.1:{console}",
    }
