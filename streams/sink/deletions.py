"""Which contacts were deleted lately, so that an older change that comes again is known for what it
is.

Releasing a record clears its key and its version, and with them all that could refuse an older
change. Dedupe sends one again when it ends between its outputs and its table: without this memory
the record would be taken over by what the deletion had outdated, until the deletion comes again as
well.
"""

from collections.abc import Iterable, Iterator

import orjson

from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings
from streams.topics import Topics

REMEMBERED = 100_000  # contacts; some 20 MB
# outcomes that a new writer reads: all that the workers of dedupe can have at work at once
RECENT = 20_000


class Deletions:
    """The versions of the deletions that were carried out, by contact; the oldest are forgotten
    first.
    """

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def note(self, key: str, version: int) -> None:
        """The contact's record was released, flagged or kept."""
        newest = max(version, self._versions.pop(key, version))
        self._versions[key] = newest
        if len(self._versions) > REMEMBERED:
            del self._versions[next(iter(self._versions))]

    def outdate(self, change: ContactChange) -> bool:
        """Whether the contact was deleted after this change."""
        return change.version < self._versions.get(change.key, change.version)


def recent_deletions(kafka: KafkaSettings, names: Topics) -> list[tuple[str, int]]:
    """Contact keys and versions of the deletions that a predecessor carried out lately. Blocks.

    Raises SnapshotStalled, KafkaException.
    """
    return list(deletions_of(read_to_end(kafka, names.outcomes.name, last=RECENT)))


def deletions_of(outcomes: Iterable[KafkaRecord]) -> Iterator[tuple[str, int]]:
    """Those among the records of contacts.outcomes; what is no outcome is passed over."""
    for record in outcomes:
        try:
            found = orjson.loads(record.value or b"{}")
            if found.get("kind") == Kind.DELETED and isinstance(
                version := found.get("version"), int
            ):
                yield (record.key or b"").decode(), version
        except (ValueError, AttributeError):
            continue
