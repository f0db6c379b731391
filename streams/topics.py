"""The topics of a deployment: their names, their purposes, and their policies with the reasons."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.kafka.topic_policy import Topic
from streams.settings import KafkaSettings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

# A compacted topic removes a record at the latest so long after another one replaced it; only a
# topic that gets no further record keeps it. contacts.events deletes by age, by default after as
# many days (KAFKA_EVENTS_RETENTION_DAYS). It must keep what dedupe has not read while it is away
# for a weekend, and a day more to work it off.
ERASURE_DAYS = 14

# The reader acts once on each record of grants.events and contacts.outcomes, so it must find each
# of them after it was away. Kafka forgets the offset of a group without members after 7 days
# (offsets.retention.minutes); then the reader reads from the start and reconciles everything.
READER_AWAY_DAYS = 7

# A gap between two heartbeats on reader.runs shows only while both are there. A reader that was
# away for longer than a day reconciles everything by its schedule (READER_RECONCILE_EVERY). The
# second day is the gap's own. Longer would slow each takeover: a reader reads all of the topic.
HEARTBEAT_DAYS = 2

# The sink tells an older change that follows a newer one by the versions of the two, so the newer
# one must be there when the sink has been away for a weekend.
SINK_AWAY_DAYS = 3

# A person needs some weeks to notice a letter and to mend what caused it. The address book still
# holds the contact afterwards.
DEAD_LETTER_DAYS = 30

# A wrong mapping is noticed with the next quarterly report at the latest, and can be undone then.
JOURNAL_DAYS = 90

# Who did what is asked about for more than a year.
AUDIT_DAYS = 400

# Of these topics only the newest record of each key counts.
NOBODY_DAYS = 0

# A record that erases another one is kept for so long. Whoever knows the other one must find it:
# a sink reads sink.accounts again from the start after half of that.
TOMBSTONE_DAYS = 1

# A segment takes records for so long. Kafka neither compacts nor deletes it meanwhile, so a record
# may stay for so much longer than its age says.
SEGMENT_MS = DAY_MS

# A worker of dedupe reads its part of the changelog before it works, and so every record that is
# not compacted yet.
CHANGELOG_SEGMENT_MS = HOUR_MS


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one Salesforce org. A second org has a second topic prefix.

    The key of contacts.* records is the contact key, `grant_id/contact_id`.
    """

    events: Topic
    """contacts.events: everything that was seen of a contact, in any order.

    Written by the bridge (notifications), by the reader (pages) and by replays. Read by dedupe.
    """
    changes: Topic
    """contacts.changes: the newest state of each contact, compacted.

    Written by dedupe only, read by the sink. The reader compares listings with it. It has one
    partition, because one sink at a time writes to an org.
    """
    refetch: Topic
    """contacts.refetch: requests of dedupe to read single contacts again. Read by the reader."""
    outcomes: Topic
    """contacts.outcomes: the result of the last write of each contact to Salesforce, compacted.

    Written by the sink. The reader looks there for records that were released.
    """
    accounts: Topic
    """sink.accounts: the hosts of the org's Accounts, and how far they were read, compacted.

    Written and read by the sink, so that a start asks the org only for what changed. `plan` reads
    it.
    """
    dead_letter: Topic
    """contacts.dead-letter: records that a stage could not process; see streams/dead_letters.py.

    A letter that was redriven, discarded or erased gets a tombstone. Written by every stage and by
    `contactstream dead-letters`.
    """
    journal: Topic
    """contacts.journal: each value that was replaced in Salesforce, and each record that was
    created; see streams/journal.py.

    Every entry has a key of its own, so that an erasure removes the entries of a person by
    tombstones. Written by the sink and by `contactstream undo`, read by commands and the console.
    """
    audit: Topic
    """contactstream.audit: who did what by a command, when and why; see streams/audit.py.

    Written and read by commands.
    """
    deleted_records: Topic
    """sink.deleted-records: what people deleted or merged in Salesforce; see
    streams/sink/deleted_topic.py.

    Written by the sink once a day, and by `contactstream deletions`. It is compacted: a deletion is
    respected however long ago it was. A sink reads it when it becomes the writer.
    """
    grants: Topic
    """grants.events: notifications about grants, and what the listing of grants adds to them.

    Its key is the grant ID, or `GRANT/address` for the address of its owner, which the reader keeps
    beyond later notifications (streams/grant_addresses.py). It is compacted. Written by the bridge
    and the reader, read by the reader, dedupe, and the sink for the owners of created records.
    """
    runs: Topic
    """reader.runs: backfills and reconciles with their progress; see streams/runs.py.

    It also carries the heartbeats of the bridges. It is compacted. The consumer group of the
    readers assigns its one partition to one reader, which is then the active one.
    """
    control: Topic
    """contactstream.control: what stops a part of the flow until people let it go, compacted; see
    streams/control.py.

    Written by the sink, which opens failure breakers, by the reader, which puts the selection of
    mailboxes in force, and by commands. Read by all of them and by dedupe.
    """
    suppression: Topic
    """contactstream.suppression: people who asked to be erased, as salted hashes, compacted; see
    streams/suppression.py.

    Written by `contactstream suppress`. Read by dedupe and the sink before they work.
    """
    seen_changelog: Topic
    """The changelog of dedupe's table of versions, compacted."""

    def all(self) -> list[Topic]:
        """Every topic, in the order of the flow."""
        return [getattr(self, field.name) for field in fields(self)]


def topics(kafka: KafkaSettings) -> Topics:
    """The topics of a deployment with their policies."""

    def compact(shortest_days: int, segment_ms: int = SEGMENT_MS) -> dict[str, str]:
        """Keeps the newest record of each key, and every record for so many days."""
        return {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.1",
            "min.compaction.lag.ms": str(shortest_days * DAY_MS),
            "max.compaction.lag.ms": str(ERASURE_DAYS * DAY_MS),
            "delete.retention.ms": str(TOMBSTONE_DAYS * DAY_MS),
            "segment.ms": str(segment_ms),
        }

    def kept(days: int) -> dict[str, str]:
        """Keeps every record for so many days."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(days * DAY_MS),
            "segment.ms": str(SEGMENT_MS),
        }

    # These topics hold signed notifications of up to 1 MB with our headers. Kafka and librdkafka
    # would refuse them by default, because their limit is 1 MB for the whole record.
    large = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    # The others take whole batches of our producers, also where a broker's own limit is lower. This
    # is Kafka's default.
    small = {"max.message.bytes": "1048588"}
    prefix, replicas = kafka.topic_prefix, kafka.replication_factor
    # A record counts as acknowledged only when two brokers have it, if there are two. With two
    # replicas a topic therefore takes no records while one of them is down. The bridge answers 503
    # meanwhile and Nylas sends again, whereas nothing restores a record that was on a lost disk.
    # A cluster's defaults may elect a leader that lacks acknowledged records, or delete records
    # before their time by the size of the log. The age of a record is that by the broker's clock:
    # with a producer's wrong clock, Kafka would delete records at once, or never.
    durable = {
        "min.insync.replicas": str(min(2, replicas)),
        "unclean.leader.election.enable": "false",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
    }

    def topic(name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        return Topic(name, partitions, {**config, **durable}, replicas)

    return Topics(
        events=topic(
            prefix + "contacts.events",
            kafka.events_partitions,
            kept(kafka.events_retention_days) | large,
        ),
        changes=topic(prefix + "contacts.changes", 1, compact(SINK_AWAY_DAYS) | large),
        refetch=topic(prefix + "contacts.refetch", 1, kept(7) | small),
        outcomes=topic(prefix + "contacts.outcomes", 1, compact(READER_AWAY_DAYS) | small),
        # Some 100 bytes for each Account. A reload writes all of them again.
        accounts=topic(prefix + "sink.accounts", 1, compact(NOBODY_DAYS) | small),
        # Compacted, so that a tombstone removes its letter; and deleted by age.
        dead_letter=topic(
            prefix + "contacts.dead-letter",
            1,
            compact(NOBODY_DAYS)
            | kept(DEAD_LETTER_DAYS)
            | {"cleanup.policy": "compact,delete"}
            | large,
        ),
        # Compacted, so that a tombstone of an erasure removes its entry. Large, because a replaced
        # value may be a long text of 131,072 characters.
        journal=topic(
            prefix + "contacts.journal",
            1,
            compact(NOBODY_DAYS)
            | kept(JOURNAL_DAYS)
            | {"cleanup.policy": "compact,delete"}
            | large,
        ),
        audit=topic(prefix + "contactstream.audit", 1, kept(AUDIT_DAYS) | small),
        deleted_records=topic(prefix + "sink.deleted-records", 1, compact(NOBODY_DAYS) | small),
        grants=topic(prefix + "grants.events", 1, compact(READER_AWAY_DAYS) | small),
        runs=topic(prefix + "reader.runs", 1, compact(HEARTBEAT_DAYS) | small),
        # One record for each reason of failures, and one for each grant if mailboxes are selected.
        control=topic(prefix + "contactstream.control", 1, compact(NOBODY_DAYS) | small),
        suppression=topic(prefix + "contactstream.suppression", 1, compact(NOBODY_DAYS) | small),
        # Faust derives the name, <application>-<table>-changelog, and writes an entry to the
        # partition that its event came from. It never creates the topic, nor checks it.
        seen_changelog=topic(
            f"{group(kafka, 'dedupe')}-seen-changelog",
            kafka.events_partitions,
            compact(NOBODY_DAYS, CHANGELOG_SEGMENT_MS) | small,
        ),
    )


def group(kafka: KafkaSettings, stage: str) -> str:
    """The consumer group of a stage; that of dedupe carries its generation, unless that is 1."""
    name = f"{kafka.topic_prefix}contactstream-{stage}"
    generation = kafka.dedupe_generation
    return f"{name}-{generation}" if stage == "dedupe" and generation > 1 else name


def of_generation(kafka: KafkaSettings, generation: int) -> KafkaSettings:
    """The same settings for another generation of dedupe."""
    return kafka.model_copy(update={"dedupe_generation": generation})


def generation_of(kafka: KafkaSettings, topic: str) -> int | None:
    """The generation of dedupe whose changelog a topic is, None if it is none."""
    base = re.escape(group(of_generation(kafka, 1), "dedupe"))
    found = re.fullmatch(rf"{base}(?:-([1-9]\d?))?-seen-changelog", topic)
    return None if found is None else int(found[1] or 1)


def transactional_id(kafka: KafkaSettings, stage: str) -> str:
    """The transactional ID of what a stage writes for its one partition."""
    return f"{group(kafka, stage)}-0"
