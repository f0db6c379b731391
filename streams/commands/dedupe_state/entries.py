"""What another generation's table gets of the old table, or of contacts.changes: plain functions.

What contacts.changes does not hold is lost when a table is made of it:

1. Versions that were seen and not forwarded, because they changed nothing. Until a newer event
   comes, an event between the forwarded version and those passes as news.
2. The notification IDs of the newest second. A redelivery with other content in that second is
   forwarded again, and has its contact read again.
3. Contacts of which nothing was forwarded yet.
4. Which contact groups a contact was in. One that leaves them before it was read again waits for
   `contactstream selection`, and is not released by itself.

A reconcile of all grants makes up for each of them.
"""

from collections.abc import Callable

from streams.dedupe.versions import (
    DedupeState,
    UnreadableState,
    decode,
    encode,
    mapping_tag,
)
from streams.events import UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord

LOST_WITH_CHANGES = (
    "contacts.changes holds only what was forwarded: versions that were seen and changed nothing, "
    "and the IDs of recent notifications, are lost. Run afterwards: contactstream reconcile --all"
)

Entry = tuple[bytes, bytes | None]
"""A key and its entry of the table, or None that removes it."""

FINGERPRINT_BYTES = 16


class UnusableEntry(ValueError):
    """A record from which no entry can be made; the text says which one, and what to do."""


def entry_of_changelog(record: KafkaRecord) -> Entry | None:
    """The entry of a record of an old changelog, in the format of this version.

    None for a record without a key, which no worker wrote. Raises UnusableEntry.
    """
    if record.key is None:
        return None
    if record.value is None:
        return record.key, None
    try:
        return record.key, encode(decode(record.value))
    except UnreadableState as error:
        raise UnusableEntry(
            f"{record.topic}[{record.partition}]: the entry at {record.offset} cannot be read "
            f"({error}). Run this command in the version that wrote it, or a newer one, or make "
            "the table of contacts.changes: --from changes"
        ) from error


def entry_of_change(record: KafkaRecord) -> Entry | None:
    """The entry for the contact of a record of contacts.changes.

    Its fingerprint and its mapping are those of the headers, which the old table had, too: after a
    change of the mapping the contact is news, as it was before. None for a record that another
    program wrote.
    """
    try:
        change = parse_change(record.key, record.value, record.headers)
    except UnreadableRecord:
        return None
    if record.key is None:
        return None
    if change is None:
        return record.key, None
    state = DedupeState(change.version, change.version, mapping=mapping_tag(change.mapping))
    try:
        fingerprint = bytes.fromhex(change.fingerprint)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) == FINGERPRINT_BYTES:
        state = state._replace(fingerprint=fingerprint)
    return record.key, encode(state)


EntryOf = Callable[[KafkaRecord], Entry | None]
"""`entry_of_changelog` or `entry_of_change`."""
