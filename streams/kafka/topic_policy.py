"""How a topic has to be, what differs from it, and what may be mended while the topic is in use.

Plain functions over plain data; `streams.kafka.admin` asks the broker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# The largest batch of records that a topic takes, in bytes. By default it is the broker's
# `message.max.bytes`.
LIMIT = "max.message.bytes"

CLEANUP = "cleanup.policy"
RETENTION = "retention.ms"
MIN_IN_SYNC = "min.insync.replicas"

# The shortest and the longest time until a record that a later one replaced is removed. Kafka
# refuses a topic whose shortest is above its longest, so each also bounds the other.
MIN_COMPACTION_LAG = "min.compaction.lag.ms"
MAX_COMPACTION_LAG = "max.compaction.lag.ms"

# More of it is as good.
AT_LEAST = frozenset({LIMIT, MIN_COMPACTION_LAG, "delete.retention.ms"})
# Less of it is as good.
AT_MOST = frozenset({MAX_COMPACTION_LAG, "segment.ms"})


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it has to be.

    `config` holds only the settings that matter; the cluster's defaults decide the others.
    """

    name: str
    partitions: int
    config: Mapping[str, str]
    replicas: int


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A setting of a topic, its value, and the one that the policy wants."""

    name: str
    found: str
    wanted: str


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """A problem of a topic, and the command or the setting that fixes it; for an operator."""

    topic: str
    problem: str
    remedy: str
    stops_stages: bool = False
    """Whether the stages that read the topic refuse to start: its number of partitions is wrong."""
    change: SettingChange | None = None
    """What `contactstream topics alter` changes; None where it changes nothing."""


def missing(topic: Topic) -> TopicFinding:
    """The finding about a topic that does not exist."""
    return TopicFinding(topic.name, "does not exist", "contactstream topics create")


def compare(topic: Topic, copies: Sequence[int], config: Mapping[str, str]) -> list[TopicFinding]:
    """Compares a topic with the existing one of this name.

    `copies` are the numbers of replicas of the existing partitions. `config` is the configuration
    that is in force, of which a broker's own settings are a part. A setting that the broker does
    not know is no finding.
    """
    findings = []
    if len(copies) != topic.partitions:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {len(copies)} partitions instead of {topic.partitions}",
                _partitions_remedy(topic.partitions),
                stops_stages=True,
            )
        )
    fewest = min(copies, default=topic.replicas)
    if fewest < topic.replicas:
        findings.append(
            TopicFinding(
                topic.name,
                f"has {fewest} of {topic.replicas} copies",
                f"kafka-reassign-partitions with {topic.replicas} replicas for each of its "
                f"partitions, or set KAFKA_REPLICATION_FACTOR={fewest} if so many are meant",
            )
        )
    findings += [
        _setting_finding(topic.name, SettingChange(name, config[name], wanted), fewest)
        for name, wanted in topic.config.items()
        if name in config and not _as_wanted(name, config[name], topic.config, fewest)
    ]
    return findings


def _partitions_remedy(wanted: int) -> str:
    if wanted == 1:
        return (
            "it must have one partition, and Kafka cannot take partitions away: stop the stages, "
            "start with a new KAFKA_TOPIC_PREFIX, and run contactstream backfill --all"
        )
    return (
        "never repartition a live topic: set KAFKA_EVENTS_PARTITIONS to what it has, "
        "or start with a new KAFKA_TOPIC_PREFIX"
    )


def _as_wanted(name: str, found: str, policy: Mapping[str, str], copies: int) -> bool:
    """Whether a value meets the policy; `copies` is the fewest replicas of a partition."""
    wanted = policy[name]
    if name in AT_LEAST:
        longest = policy.get(MAX_COMPACTION_LAG) if name == MIN_COMPACTION_LAG else None
        return int(wanted) <= int(found) and (longest is None or int(found) <= int(longest))
    if name in AT_MOST:
        shortest = policy.get(MIN_COMPACTION_LAG) if name == MAX_COMPACTION_LAG else None
        return int(found) <= int(wanted) and (shortest is None or int(shortest) <= int(found))
    # More in-sync replicas are safer still. More than there are copies, and no record would ever be
    # acknowledged.
    if name == MIN_IN_SYNC:
        return int(wanted) <= int(found) <= copies or found == wanted
    return found == wanted


def _setting_finding(topic: str, change: SettingChange, copies: int) -> TopicFinding:
    name, found, wanted = change.name, change.found, change.wanted
    bound = ""
    if name in AT_LEAST and int(found) < int(wanted):
        bound = "at least "
    if name in AT_MOST and int(found) > int(wanted):
        bound = "at most "
    problem = f"{name} is {found} instead of {bound}{wanted}"
    by_hand = f"kafka-configs --alter --topic {topic} --add-config {name}={wanted}"
    if reason := not_alterable(change, copies):
        return TopicFinding(topic, problem, f"{reason}: {by_hand}")
    return TopicFinding(topic, problem, f"contactstream topics alter, or {by_hand}", change=change)


def not_alterable(change: SettingChange, copies: int) -> str:
    """Why a setting is not changed while the topic is in use, and what to do first; "" if it may.

    Refused is what may delete records that nobody has read, and what would keep the topic from
    taking records. `copies` is the fewest replicas of a partition.
    """
    if change.name == RETENTION and not 0 <= int(change.found) <= int(change.wanted):
        return (
            "topics alter does not shorten a retention, which deletes records at once, also those "
            "that nobody has read. Let the stages read to the end of the topic first"
        )
    found, wanted = set(change.found.split(",")), set(change.wanted.split(","))
    if change.name == CLEANUP and "delete" in wanted - found:
        return (
            "topics alter does not begin to delete by age, which deletes records at once, also "
            "those that nobody has read. Let the stages read to the end of the topic first"
        )
    if change.name == MIN_IN_SYNC and int(change.wanted) > copies:
        return (
            f"topics alter does not ask for more in-sync replicas than the {copies} that there "
            "are: the topic would take no records. Add replicas first"
        )
    return ""
