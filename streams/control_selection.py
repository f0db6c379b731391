"""The records of contactstream.control that say which mailboxes are synced.

| key | value | written by |
|---|---|---|
| `selection/mailboxes` | the rule in force: the entries of PEOPLE_MAILBOXES | the reader |
| `selection/groups` | the entries of PEOPLE_GROUPS and PEOPLE_EXCLUDED_GROUPS | the reader |
| `selection/group-names/GRANT` | the names of a grant's contact groups by ID | the reader |
| `selection/exclusions` | a hash of the exclusions in force | the reader |
| `selection/members/API_NAME` | the addresses of the users of a permission set | the sink |
| `selection/grant/GRANT` | whether a grant is selected, since when and why | the reader |

The reader puts the rule in force when it starts; dedupe and commands obey the record, so that no
two processes follow different rules while a deployment is updated. Without the record, the setting
of each process counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from streams.contact_groups import NO_NAMES, GroupRule
from streams.events import UnreadableRecord, parse_object
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.topics import Topics

SELECTION = "selection"
"""What stands before the first slash of these keys."""

_RULE = b"selection/mailboxes"
_GROUPS = b"selection/groups"
_GROUP_NAMES = "selection/group-names/"
_EXCLUSIONS = b"selection/exclusions"
_MEMBERS = "selection/members/"
_GRANT = "selection/grant/"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Members:
    """The users of a permission set of Salesforce, when the sink last asked."""

    permission_set: str
    addresses: frozenset[str]
    """In lower case."""
    asked_ms: int
    """When, in epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class GrantChoice:
    """What the reader decided about a grant."""

    grant: str
    choice: Choice
    since_ms: int
    """Since when it is so, in epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class GroupNames:
    """The contact groups of a grant, when the reader last asked."""

    grant: str
    names: Mapping[str, str]
    """By ID."""
    asked_ms: int
    """When, in epoch milliseconds."""


@dataclass(slots=True)
class SelectionRecords:
    """The newest of these records that were read so far."""

    rule: MailboxRule | None = None
    """The rule in force; None while the reader has put none in force."""
    rule_since_ms: int = 0
    groups: GroupRule | None = None
    """The rule of contact groups in force; None while the reader has put none in force."""
    group_names: dict[str, GroupNames] = field(default_factory=dict)
    """By grant ID."""
    exclusions: str = ""
    """`Exclusions.digest` of those in force; empty while the reader has put none in force."""
    members: dict[str, Members] = field(default_factory=dict)
    """By the API name of the permission set."""
    grants: dict[str, GrantChoice] = field(default_factory=dict)
    """By grant ID."""

    def apply(self, record: KafkaRecord) -> bool:
        """Takes the next record of the topic in; False for a record of another kind.

        Raises UnreadableRecord, also for a later format.
        """
        key = (record.key or b"").decode(errors="replace")
        if not key.startswith(f"{SELECTION}/"):
            return False
        if record.value is None:
            self._remove(key)
            return True
        data = parse_object(record.value)
        if data.get("schema") != _SCHEMA:
            raise UnreadableRecord(
                "not_a_selection", f"schema {data.get('schema')!r}; this version reads {_SCHEMA}"
            )
        try:
            if record.key == _RULE:
                self.rule = MailboxRule(tuple(str(entry) for entry in data["entries"]))
                self.rule_since_ms = int(data["since_ms"])
            elif record.key == _GROUPS:
                self.groups = GroupRule(
                    tuple(map(str, data["included"])), tuple(map(str, data["excluded"]))
                )
            elif key.startswith(_GROUP_NAMES):
                grant = key.removeprefix(_GROUP_NAMES)
                names = {str(each): str(name) for each, name in data["names"].items()}
                self.group_names[grant] = GroupNames(grant, names, int(data["asked_ms"]))
            elif record.key == _EXCLUSIONS:
                self.exclusions = str(data["digest"])
            elif key.startswith(_MEMBERS):
                name = key.removeprefix(_MEMBERS)
                addresses = frozenset(str(each).casefold() for each in data["addresses"])
                self.members[name] = Members(name, addresses, int(data["asked_ms"]))
            elif key.startswith(_GRANT):
                grant = key.removeprefix(_GRANT)
                choice = Choice(
                    data["selected"] is True, Why(data["why"]), str(data.get("entry") or "")
                )
                self.grants[grant] = GrantChoice(grant, choice, int(data["since_ms"]))
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            raise UnreadableRecord("not_a_selection", repr(error)) from error
        return True

    def _remove(self, key: str) -> None:
        if key.encode() == _RULE:
            self.rule, self.rule_since_ms = None, 0
        if key.encode() == _EXCLUSIONS:
            self.exclusions = ""
        if key.encode() == _GROUPS:
            self.groups = None
        self.group_names.pop(key.removeprefix(_GROUP_NAMES), None)
        self.members.pop(key.removeprefix(_MEMBERS), None)
        self.grants.pop(key.removeprefix(_GRANT), None)

    def choose(self, address: str | None, setting: MailboxRule) -> Choice:
        """Whether the mailbox of an address is synced; None while the address is not known.

        `setting` counts while no rule is in force.
        """
        return self.in_force(setting).choose(address, self.member_addresses())

    def in_force(self, setting: MailboxRule) -> MailboxRule:
        """The rule that dedupe obeys in a deployment with this setting."""
        return setting if self.rule is None else self.rule

    def groups_in_force(self, setting: GroupRule) -> GroupRule:
        """The rule of contact groups that dedupe obeys in a deployment with this setting."""
        return setting if self.groups is None else self.groups

    def names_of_groups(self, grant: str) -> Mapping[str, str]:
        """The names of a grant's contact groups by ID; none while they are not known."""
        found = self.group_names.get(grant)
        return NO_NAMES if found is None else found.names

    def member_addresses(self) -> dict[str, frozenset[str]]:
        """The addresses of the users of each permission set that is known."""
        return {name: one.addresses for name, one in self.members.items()}


def rule_record(topics: Topics, rule: MailboxRule, since_ms: int) -> KafkaRecord:
    """The rule that comes into force."""
    value = {"schema": _SCHEMA, "entries": list(rule.entries), "since_ms": since_ms}
    return KafkaRecord(topics.control.name, _RULE, orjson.dumps(value), [])


def groups_record(topics: Topics, rule: GroupRule, since_ms: int) -> KafkaRecord:
    """The rule of contact groups that comes into force."""
    value = {
        "schema": _SCHEMA,
        "included": list(rule.included),
        "excluded": list(rule.excluded),
        "since_ms": since_ms,
    }
    return KafkaRecord(topics.control.name, _GROUPS, orjson.dumps(value), [])


def group_names_record(topics: Topics, found: GroupNames) -> KafkaRecord:
    """The contact groups of a grant."""
    value = {"schema": _SCHEMA, "names": dict(found.names), "asked_ms": found.asked_ms}
    key = f"{_GROUP_NAMES}{found.grant}".encode()
    return KafkaRecord(topics.control.name, key, orjson.dumps(value), [])


def forget_group_names_record(topics: Topics, grant: str) -> KafkaRecord:
    """The tombstone of the contact groups of a grant."""
    return KafkaRecord(topics.control.name, f"{_GROUP_NAMES}{grant}".encode(), None, [])


def exclusions_record(topics: Topics, digest: str, since_ms: int) -> KafkaRecord:
    """The exclusions that come into force, by `Exclusions.digest`."""
    value = {"schema": _SCHEMA, "digest": digest, "since_ms": since_ms}
    return KafkaRecord(topics.control.name, _EXCLUSIONS, orjson.dumps(value), [])


def members_record(topics: Topics, members: Members) -> KafkaRecord:
    """The users of a permission set."""
    value = {
        "schema": _SCHEMA,
        "addresses": sorted(members.addresses),
        "asked_ms": members.asked_ms,
    }
    key = f"{_MEMBERS}{members.permission_set}".encode()
    return KafkaRecord(topics.control.name, key, orjson.dumps(value), [])


def grant_choice_record(topics: Topics, decided: GrantChoice) -> KafkaRecord:
    """What the reader decided about a grant."""
    value = {
        "schema": _SCHEMA,
        "selected": decided.choice.selected,
        "why": decided.choice.why.value,
        "entry": decided.choice.entry,
        "since_ms": decided.since_ms,
    }
    key = f"{_GRANT}{decided.grant}".encode()
    return KafkaRecord(topics.control.name, key, orjson.dumps(value), [])


def forget_grant_record(topics: Topics, grant: str) -> KafkaRecord:
    """The tombstone of the choice for a grant that is gone."""
    return KafkaRecord(topics.control.name, f"{_GRANT}{grant}".encode(), None, [])
