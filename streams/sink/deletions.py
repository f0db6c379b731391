"""Which contacts were deleted lately, so that an older change that comes again is not written.

A deletion releases the record: its key is cleared, and another contact may take it over at any
version, so that nothing in the org would refuse an older change of this contact. Dedupe sends an
older change again when it ends between publishing its outputs and writing its table. Without this
memory that change would take the released record over, until the deletion comes again as well.
"""

from collections.abc import Iterable, Iterator

import orjson

from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings
from streams.topics import Topics

# Contacts; some 20 MB.
REMEMBERED = 100_000
# Outcomes that a new writer reads: all that the workers of dedupe can have in flight at once.
RECENT = 20_000
# Offsets that an outcome takes at most: its own, and that of the marker of its transaction.
OFFSETS_OF_AN_OUTCOME = 2


class Deletions:
    """The versions of the deletions that were carried out, by contact.

    Beyond REMEMBERED contacts the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def note(self, key: str, version: int) -> None:
        """Remembers a deletion that was carried out: the record was released, flagged or kept."""
        newest = max(version, self._versions.pop(key, version))
        self._versions[key] = newest
        if len(self._versions) > REMEMBERED:
            del self._versions[next(iter(self._versions))]

    def is_outdated(self, change: ContactChange) -> bool:
        """Whether the contact was deleted after this change."""
        return change.version < self._versions.get(change.key, change.version)


def recent_deletions(kafka: KafkaSettings, names: Topics) -> list[tuple[str, int]]:
    """Contact keys and versions of the deletions in the last RECENT outcomes, or in some more.

    Blocks. Raises SnapshotStalled, KafkaException.
    """
    last = RECENT * OFFSETS_OF_AN_OUTCOME
    return list(deletions_of(read_to_end(kafka, names.outcomes.name, last=last)))


def deletions_of(outcomes: Iterable[KafkaRecord]) -> Iterator[tuple[str, int]]:
    """Contact keys and versions of the deletions among records of contacts.outcomes.

    Records that are no outcomes are skipped.
    """
    for record in outcomes:
        try:
            found = orjson.loads(record.value or b"{}")
            if found.get("kind") == Kind.DELETED and isinstance(
                version := found.get("version"), int
            ):
                yield (record.key or b"").decode(), version
        except (ValueError, AttributeError):
            continue
