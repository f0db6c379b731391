"""What a deployment knows of the org that it wrote to before, and how a sink clears it.

Record IDs hold for one org. So do the Accounts, and what people deleted.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

import structlog
from confluent_kafka import KafkaException

from connectors.salesforce.account_store import AccountCursor
from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.errors import SalesforceError
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled, read_to_end
from streams.settings import KafkaSettings
from streams.sink.account_topic import CURSOR_KEY, encode_cursor
from streams.sink.deleted_topic import ADDRESS, SALT
from streams.topics import Topics

log = structlog.get_logger()

# Of one transaction: what a broker acknowledges in far less than a second.
RECORDS_AT_ONCE = 2_000


class NotCleared(SalesforceError):
    """Kafka did not let the sink clear what is known of the former org; it may be repeated."""


Clearing = Callable[[Iterable[KafkaRecord]], Iterator[KafkaRecord]]
"""Takes the records of a topic in their order; returns those that make it forget the org."""


def clear_values(records: Iterable[KafkaRecord]) -> Iterator[KafkaRecord]:
    """A tombstone for each record: outcomes and the journal name records of the org."""
    return (_tombstone(record) for record in records if _says_something(record))


def clear_accounts(records: Iterable[KafkaRecord]) -> Iterator[KafkaRecord]:
    """A tombstone for each Account, and then a cursor that says that none was read yet.

    A tombstone of the cursor would not do: a sink that reads the topic keeps the last one.
    """
    topic = ""
    for record in records:
        topic = record.topic
        if record.key != CURSOR_KEY and _says_something(record):
            yield _tombstone(record)
    if topic:
        yield KafkaRecord(topic, CURSOR_KEY, encode_cursor(AccountCursor()), [])


def clear_deleted_records(records: Iterable[KafkaRecord]) -> Iterator[KafkaRecord]:
    """A tombstone for each deletion, and for how far the recycle bin was read.

    The salt stays. Lifts of addresses stay, since they only say what counts no more.
    """
    kept = (SALT.encode(), ADDRESS.encode())
    return (
        _tombstone(record)
        for record in records
        if _says_something(record) and not (record.key or b"").startswith(kept)
    )


def clearings(names: Topics) -> Mapping[str, Clearing]:
    """By the name of a topic, what makes it forget the org; in the order of clearing."""
    return MappingProxyType(
        {
            names.accounts.name: clear_accounts,
            names.deleted_records.name: clear_deleted_records,
            names.journal.name: clear_values,
            names.outcomes.name: clear_values,
        }
    )


async def clear_former_org(
    kafka: KafkaSettings, names: Topics, publisher: RecordPublisher, fence: Fence
) -> None:
    """Clears the topics; returns once the broker has acknowledged every record.

    Threads read the topics. Raises NotCleared, and WriterFenced where the fence does.
    """
    for name, clearing in clearings(names).items():
        cleared, count = clearing(read_to_end(kafka, name)), 0
        try:
            while part := await asyncio.to_thread(_next_part, cleared):
                fence()
                await publisher.publish(part)
                count += len(part)
        except (PublishFailed, SnapshotStalled, KafkaException) as error:
            raise NotCleared(f"{name}: {error}") from error
        log.info("records of the former org cleared", topic=name, records=count)


def _next_part(cleared: Iterator[KafkaRecord]) -> list[KafkaRecord]:
    return list(islice(cleared, RECORDS_AT_ONCE))


def _says_something(record: KafkaRecord) -> bool:
    return record.value is not None and record.key is not None


def _tombstone(record: KafkaRecord) -> KafkaRecord:
    return KafkaRecord(record.topic, record.key, None, [])
