"""What a deployment knows of the org that it wrote to before, and the records that clear it.

Record IDs hold for one org. So do the Accounts, and what people deleted. Plain functions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from connectors.salesforce.account_store import AccountCursor
from streams.kafka.records import KafkaRecord
from streams.sink.account_topic import CURSOR_KEY, encode_cursor
from streams.sink.deleted_topic import ADDRESS, SALT
from streams.topics import Topics

Clearing = Callable[[Iterable[KafkaRecord]], Iterator[KafkaRecord]]
"""Takes the records of a topic in their order; returns those that make it forget the org."""


def clear_outcomes(records: Iterable[KafkaRecord]) -> Iterator[KafkaRecord]:
    """A tombstone for each outcome: it names the record that a contact has."""
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
            names.outcomes.name: clear_outcomes,
        }
    )


def _says_something(record: KafkaRecord) -> bool:
    return record.value is not None and record.key is not None


def _tombstone(record: KafkaRecord) -> KafkaRecord:
    return KafkaRecord(record.topic, record.key, None, [])
