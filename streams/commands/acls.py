"""The command topics acls: prints the least ACLs of each role, in a table or ready to apply."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import click

from streams.acls import role_acls
from streams.kafka.access import Acl, grant_command
from streams.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Users:
    """What the users of the roles are called, and what Strimzi has to know about them."""

    prefix: str
    """The user of a role is this and the role's name."""
    principal: str | None = None
    """The principal of the only role, `User:NAME`, instead."""
    cluster: str = "kafka"
    """The name of Strimzi's Kafka resource."""
    authentication: str = "scram-sha-512"
    """How Strimzi lets the users log in: scram-sha-512 or tls."""

    def name(self, role: str) -> str:
        """The user of a role."""
        return self.prefix + role

    def principal_of(self, role: str) -> str:
        """The principal of a role's user, as the broker calls it."""
        return self.principal or f"User:{self.name(role)}"


def print_acls(kafka: KafkaSettings, roles: Sequence[str], shape: str, users: Users) -> None:
    """Prints the ACLs of the roles in one of the FORMATS. Asks no broker."""
    for line in FORMATS[shape](kafka, roles, users):
        click.echo(line)


def table_lines(kafka: KafkaSettings, roles: Sequence[str], _users: Users) -> Iterator[str]:
    """A Markdown table."""
    yield "| role | resource | name | operations |"
    yield "|---|---|---|---|"
    for role in roles:
        for acl in role_acls(kafka, role):
            name = f"`{acl.name}*`" if acl.prefixed else f"`{acl.name}`"
            operations = ", ".join(acl.operations)
            yield f"| {role} | {acl.kind} | {name} | {operations} |"


def command_lines(kafka: KafkaSettings, roles: Sequence[str], users: Users) -> Iterator[str]:
    """Commands for the operators of the cluster, one for each resource."""
    for role in roles:
        yield f"# {role}"
        for acl in role_acls(kafka, role):
            yield grant_command(acl, users.principal_of(role), kafka.bootstrap_servers)


def strimzi_lines(kafka: KafkaSettings, roles: Sequence[str], users: Users) -> Iterator[str]:
    """A KafkaUser for each role, in YAML."""
    for role in roles:
        yield "---"
        yield "apiVersion: kafka.strimzi.io/v1"
        yield "kind: KafkaUser"
        yield "metadata:"
        yield f"  name: {json.dumps(users.name(role))}"
        yield "  labels:"
        yield f"    strimzi.io/cluster: {json.dumps(users.cluster)}"
        yield "spec:"
        yield "  authentication:"
        yield f"    type: {users.authentication}"
        yield "  authorization:"
        yield "    type: simple"
        yield "    acls:"
        for acl in role_acls(kafka, role):
            yield from _strimzi_acl(acl)


_STRIMZI_KINDS = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}


def _strimzi_acl(acl: Acl) -> Iterator[str]:
    yield "      - resource:"
    yield f"          type: {_STRIMZI_KINDS[acl.kind]}"
    yield f"          name: {json.dumps(acl.name)}"
    yield f"          patternType: {'prefix' if acl.prefixed else 'literal'}"
    yield f"        operations: [{', '.join(acl.operations)}]"


FORMATS: Mapping[str, Callable[[KafkaSettings, Sequence[str], Users], Iterator[str]]] = (
    MappingProxyType({"table": table_lines, "commands": command_lines, "strimzi": strimzi_lines})
)
"""By the value of --format."""
