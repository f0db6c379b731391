"""The ACLs of each process and command: what it does in Kafka, and nothing more."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from streams.kafka.access import Acl, ResourceKind
from streams.kafka.topic_policy import Topic
from streams.settings import KafkaSettings
from streams.topics import Topics, group, of_generation, topics, transactional_id

# A batch that is refused as too large is split by the limit of the topic, which DescribeConfigs
# shows. Without Write on a topic a producer could not be idempotent either.
WRITE = ("Write", "DescribeConfigs")


def role_acls(kafka: KafkaSettings, role: str) -> list[Acl]:
    """The least ACLs of a role, one for each resource; `ROLES` has the names of the roles."""
    merged: dict[tuple[ResourceKind, str, bool], dict[str, None]] = {}
    for acl in ROLES[role](kafka, topics(kafka)):
        operations = merged.setdefault((acl.kind, acl.name, acl.prefixed), {})
        operations.update(dict.fromkeys(acl.operations))
    return [
        Acl(kind, name, tuple(operations), prefixed)
        for (kind, name, prefixed), operations in merged.items()
    ]


def _topics(operations: tuple[str, ...], *wanted: Topic) -> list[Acl]:
    return [Acl("topic", topic.name, operations) for topic in wanted]


def _own_groups(kafka: KafkaSettings, process: str) -> Acl:
    """The group of a process, and those whose names it gives to clients that join none.

    Kafka wants Describe for a client with a group that it never joins.
    """
    return Acl("group", _first_group(kafka, process), ("Read",), prefixed=True)


def _first_group(kafka: KafkaSettings, process: str) -> str:
    """The group of a process; of dedupe the first one, with whose name all others begin."""
    return group(of_generation(kafka, 1), process)


def _watched_groups(kafka: KafkaSettings, *processes: str) -> list[Acl]:
    """Groups whose offsets a process asks for."""
    return [
        Acl("group", _first_group(kafka, process), ("Describe",), prefixed=True)
        for process in processes
    ]


def _bridge(_kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return _topics(WRITE, names.events, names.grants, names.runs, names.dead_letter)


def _reader(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        *_topics(("Read", *WRITE), names.events, names.grants, names.runs, names.control),
        *_topics(("Read",), names.changes, names.refetch, names.outcomes),
        *_topics(WRITE, names.dead_letter),
        _own_groups(kafka, "reader"),
        *_watched_groups(kafka, "dedupe", "sink"),
    ]


def _dedupe(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        # How long events are kept says when the oldest unread one expires.
        *_topics(("Read", "DescribeConfigs"), names.events),
        # Which mailboxes are selected, whose each grant is, and who asked to be erased.
        *_topics(("Read",), names.grants, names.control, names.suppression),
        *_topics(WRITE, names.changes, names.refetch, names.dead_letter),
        _changelogs(kafka, ("Read", *WRITE)),
        _own_groups(kafka, "dedupe"),
    ]


def _changelogs(kafka: KafkaSettings, operations: tuple[str, ...]) -> Acl:
    """The changelogs of every generation: a worker does not work beside another generation."""
    return Acl("topic", _first_group(kafka, "dedupe"), operations, prefixed=True)


def _sink(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        *_topics(("Read",), names.changes, names.grants, names.suppression),
        *_topics(
            ("Read", *WRITE),
            names.outcomes,
            names.accounts,
            names.deleted_records,
            names.control,
            names.journal,
        ),
        *_topics(WRITE, names.dead_letter),
        _own_groups(kafka, "sink"),
        Acl("transactional-id", transactional_id(kafka, "sink"), ("Write", "Describe")),
    ]


def _looking(kafka: KafkaSettings, names: Topics, process: str) -> list[Acl]:
    """What the console and the commands read, `doctor` and `explain` among them."""
    read = [topic for topic in names.all() if topic is not names.seen_changelog]
    return [
        *_topics(("Read", "DescribeConfigs"), *read),
        _changelogs(kafka, ("Describe", "DescribeConfigs")),
        _own_groups(kafka, process),
        *_watched_groups(kafka, "dedupe", "sink", "reader"),
    ]


def _console(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        *_looking(kafka, names, "console"),
        _own_groups(kafka, "command"),  # people run commands that look in its pod
        *_topics(
            ("Write",), names.events, names.dead_letter, names.runs, names.control, names.audit
        ),
    ]


def _operator(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        *_looking(kafka, names, "command"),
        _changelogs(kafka, ("Read",)),  # export and suppress say what the table holds of a person
        *_topics(
            ("Write",),
            names.events,
            names.refetch,
            names.dead_letter,
            names.runs,
            names.control,
            names.deleted_records,
            names.journal,
            names.suppression,
            names.audit,
        ),
    ]


def _topics_command(_kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return _topics(("Create", "Describe", "DescribeConfigs", "AlterConfigs"), *names.all())


def _dedupe_state(kafka: KafkaSettings, names: Topics) -> list[Acl]:
    return [
        *_topics(("Read",), names.events, names.changes),
        _changelogs(kafka, ("Create", "Read", "DescribeConfigs", "Write")),
        _own_groups(kafka, "dedupe"),
        _own_groups(kafka, "command"),
    ]


ROLES: Mapping[str, Callable[[KafkaSettings, Topics], list[Acl]]] = MappingProxyType(
    {
        "bridge": _bridge,
        "reader": _reader,
        "dedupe": _dedupe,
        "sink": _sink,
        "console": _console,
        "operator": _operator,
        "topics": _topics_command,
        "dedupe-state": _dedupe_state,
    }
)
"""By name: the four stages, the console, operators with their commands, `contactstream topics`, and
`contactstream dedupe-state`.
"""
