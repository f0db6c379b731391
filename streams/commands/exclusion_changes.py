"""Which contacts the settings leave out whose records are not settled: plain functions.

Such a contact is still synced, or dedupe has left it out since and says that it was synced.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from connectors.salesforce.kept_fields import Exclusion, is_unsettled, recorded_exclusion
from connectors.salesforce.person import grant_of
from connectors.salesforce.skip_reasons import SkipReason
from streams.events import ContactChange, Kind, UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord
from streams.reader.bounded_keys import MAX_KEYS_HELD, WHOLE, BoundedKeys, KeyPart


class LeftOutContacts(NamedTuple):
    """Contacts that are left out: key to reason, and the part of all of them that they are."""

    reasons: dict[str, SkipReason]
    part: KeyPart


def left_out_contacts(
    changes: Iterable[KafkaRecord],
    exclusion: Exclusion,
    other_grants: Collection[str] = (),
    part: KeyPart = WHOLE,
    most: int = MAX_KEYS_HELD,
) -> LeftOutContacts:
    """The contacts whose records wait to be settled because the settings leave them out.

    `changes` are records of contacts.changes in the order of their offsets. Contacts of
    `other_grants` are left alone. Where more than `most` are found, only a part of them is; `part`
    finds another part. Contacts that were left out before they were ever synced are none of them,
    and nobody can tell which of those a wider setting lets in: only the reason is kept.
    """
    found = BoundedKeys[SkipReason](part, most)
    for record in changes:
        key = (record.key or b"").decode(errors="replace")
        found.drop(key)
        if grant_of(key) in other_grants:
            continue
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue
        if change is not None and (reason := _reason(change, exclusion)):
            found.put(key, reason)
    return LeftOutContacts(found.held, found.part)


def _reason(change: ContactChange, exclusion: Exclusion) -> SkipReason | None:
    if change.kind is Kind.DELETED:
        return None
    if recorded := recorded_exclusion(change.contact):
        return recorded if is_unsettled(change.contact) else None
    reason = exclusion(change.key, change.contact)
    # `contactstream suppress` erases these, and settles their records.
    return None if reason is SkipReason.SUPPRESSED else reason
