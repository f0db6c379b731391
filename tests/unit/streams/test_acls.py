"""The ACLs of each role: complete for what it does, and printed so that they can be applied."""

import json
import shlex
from itertools import pairwise

import pytest
from click.testing import CliRunner, Result

from streams import cli
from streams.acls import ROLES, role_acls
from streams.kafka.access import Acl, explain_missing, grant_command, missing_operations, principal
from streams.settings import KafkaSettings, load
from streams.topics import group, topics, transactional_id

KAFKA = load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": "org2."})
STAGES = ("bridge", "reader", "dedupe", "sink")


def command(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(cli.main, ["topics", "acls", *words], env=environ)


def allowed(role: str, kind: str, name: str) -> set[str]:
    return {
        operation
        for acl in role_acls(KAFKA, role)
        if acl.covers(kind, name)  # type: ignore[arg-type]
        for operation in acl.operations
    }


@pytest.mark.parametrize("role", ROLES)
def test_every_name_has_the_prefix_and_every_resource_is_named_once(role: str) -> None:
    acls = role_acls(KAFKA, role)
    assert all(acl.name.startswith("org2.") for acl in acls)
    assert len({(acl.kind, acl.name) for acl in acls}) == len(acls)


def test_only_dedupe_writes_changes_and_only_the_sink_writes_outcomes() -> None:
    names = topics(KAFKA)
    writers = {
        topic: {role for role in ROLES if "Write" in allowed(role, "topic", topic)}
        for topic in (names.changes.name, names.outcomes.name)
    }
    assert writers == {names.changes.name: {"dedupe"}, names.outcomes.name: {"sink"}}


def test_only_the_topics_command_changes_topics_and_nobody_deletes_one() -> None:
    for role in ROLES:
        operations = {each for acl in role_acls(KAFKA, role) for each in acl.operations}
        assert "Delete" not in operations
        assert ("AlterConfigs" in operations) == (role == "topics")
        assert ("Create" in operations) == (role in ("topics", "dedupe-state"))


def test_each_group_is_joined_by_its_own_stage_alone() -> None:
    for stage in ("reader", "dedupe", "sink"):
        joining = {role for role in ROLES if "Read" in allowed(role, "group", group(KAFKA, stage))}
        assert joining - {"dedupe-state"} == {stage}


def test_the_sink_alone_has_a_transactional_id() -> None:
    wanted = transactional_id(KAFKA, "sink")
    having = {role for role in ROLES if allowed(role, "transactional-id", wanted)}
    assert having == {"sink"}
    assert allowed("sink", "transactional-id", wanted) == {"Write", "Describe"}


def test_a_further_generation_of_dedupe_needs_no_further_acls() -> None:
    later = load(KafkaSettings, {"KAFKA_DEDUPE_GENERATION": "7"})
    first = load(KafkaSettings, {})
    assert role_acls(later, "dedupe") == role_acls(first, "dedupe")
    changelog = topics(later).seen_changelog.name
    assert any(acl.covers("topic", changelog) for acl in role_acls(first, "dedupe"))


def test_what_is_missing_is_what_the_acls_have_and_the_broker_does_not_allow() -> None:
    acls = [Acl("topic", "a", ("Read", "Write")), Acl("topic", "b", ("Read",), prefixed=True)]
    found = missing_operations(
        acls, {"a": frozenset({"Read"}), "b.1": frozenset(), "c": frozenset()}
    )
    assert [(each.name, each.operations) for each in found] == [
        ("a", ("Write",)),
        ("b.1", ("Read",)),
    ]
    assert missing_operations(acls, {"a": frozenset({"Read", "Write"})}) == []


def test_the_explanation_names_the_user_the_operation_and_the_command() -> None:
    kafka = load(
        KafkaSettings,
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": "ada",
            "KAFKA_SASL_PASSWORD": "secret",
            "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        },
    )
    said = explain_missing([Acl("topic", "contacts.events", ("Read", "Write"))], kafka)
    assert "our user User:ada is not allowed: Read and Write on the topic contacts.events" in said
    assert (
        "kafka-acls.sh --bootstrap-server kafka:9093 --command-config admin.properties --add "
        "--allow-principal 'User:ada' --operation Read --operation Write "
        "--topic 'contacts.events'"
    ) in said
    assert "secret" not in said


def test_the_principal_of_a_token_is_its_client_and_of_nobody_anonymous() -> None:
    oauth = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_OAUTH_TOKEN_ENDPOINT_URL": "https://issuer.example/token",
        "KAFKA_OAUTH_CLIENT_ID": "ada",
        "KAFKA_OAUTH_CLIENT_SECRET": "secret",
    }
    assert principal(load(KafkaSettings, oauth)) == "User:ada"
    assert principal(load(KafkaSettings, {})) == "User:ANONYMOUS"


@pytest.mark.parametrize("role", ROLES)
def test_the_commands_grant_each_acl_of_the_role(role: str) -> None:
    done = command(role, "--format", "commands", KAFKA_TOPIC_PREFIX="org2.")
    lines = [shlex.split(line) for line in done.output.splitlines() if not line.startswith("#")]
    assert len(lines) == len(role_acls(KAFKA, role))
    for line, acl in zip(lines, role_acls(KAFKA, role), strict=True):
        assert line[line.index("--allow-principal") + 1] == f"User:contactstream-{role}"
        assert line[line.index(f"--{acl.kind}") + 1] == acl.name
        given = [word for before, word in pairwise(line) if before == "--operation"]
        assert tuple(given) == acl.operations
        assert ("prefixed" in line) == acl.prefixed


def test_the_principal_may_be_given_for_one_role() -> None:
    done = command("sink", "--format", "commands", "--principal", "User:CN=sink,O=Acme")
    assert "--allow-principal 'User:CN=sink,O=Acme'" in done.output
    refused = command("--principal", "User:a", "--format", "commands")
    assert (refused.exit_code, "one ROLE" in refused.output) == (2, True)


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    refused = command("sinc")
    assert refused.exit_code == 2
    assert "no role sinc; the roles are bridge, reader, dedupe, sink" in refused.output


def test_strimzi_gets_a_user_for_each_role() -> None:
    done = command(
        "--format",
        "strimzi",
        "--cluster",
        "main",
        "--authentication",
        "tls",
        "--user-prefix",
        "cs-",
    )
    users = done.output.split("---\n")[1:]
    assert [user.splitlines()[3] for user in users] == [
        f"  name: {json.dumps(f'cs-{role}')}" for role in ROLES
    ]
    for user, role in zip(users, ROLES, strict=True):
        assert user.startswith("apiVersion: kafka.strimzi.io/v1\nkind: KafkaUser\n")
        assert '    strimzi.io/cluster: "main"\n' in user
        assert "    type: tls\n" in user
        for acl in role_acls(load(KafkaSettings, {}), role):
            pattern = "prefix" if acl.prefixed else "literal"
            operations = ", ".join(acl.operations)
            assert (
                f"          name: {json.dumps(acl.name)}\n          patternType: {pattern}\n"
                f"        operations: [{operations}]\n"
            ) in user
    assert users[list(ROLES).index("sink")].count("type: transactionalId") == 1


def test_the_command_of_a_prefix_says_so() -> None:
    assert grant_command(Acl("group", "g", ("Read",), prefixed=True), "User:a", "b:1").endswith(
        "--operation Read --group 'g' --resource-pattern-type prefixed"
    )


@pytest.mark.parametrize("role", ["dedupe", "sink"])
def test_who_must_not_write_erased_people_may_read_their_list_and_not_write_it(role: str) -> None:
    names = topics(KAFKA)
    operations = allowed(role, "topic", names.suppression.name)
    assert "Read" in operations
    assert "Write" not in operations
