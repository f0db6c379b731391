"""Catching up: what a predecessor may have written is read before the first write.

A predecessor may have written the changes behind its last commit already. If they were written
again from the start, an older change would meet a record that a newer one has released, and the
org refuses nothing there. So of these changes only the newest of each contact is written.

The values of so many changes do not fit into memory. So they are read twice. The first time only
the version and the offset of each contact's newest change are kept. Then reading starts over,
within the byte budget, and a change that a newer one supersedes is finished at once.

A contact's newest change may lie before an older one: a replay. It is then not finished before all
was read again. Otherwise a successor might start between the two, and write the older one.
"""

from confluent_kafka import TopicPartition

from streams.events import UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord

# Records that a writer takes beyond its last commit, and so the most that a successor reads twice.
# Each record that is finished behind an unfinished one costs the writer 115 bytes, and each contact
# costs its successor some 280, as measured: 12 and 28 MB. A record may wait for ten minutes (see
# `connectors.salesforce.unanswered_calls`), in which 160 changes a second are this many.
SPAN_RECORDS = 100_000

_WRITTEN = "written-to="
# Instead of the offset of a contact's newest change, once that was taken.
_TAKEN = -1


def written_note(offset: int) -> str:
    """Says in the group's commit that its writer may have written changes up to this offset."""
    return f"{_WRITTEN}{offset}"


def written_to(committed: TopicPartition, end: int) -> int:
    """The offset up to which the writer of this commit may have written; `end` is that of the log.

    A commit that does not say it, or that somebody made by hand, proves nothing: then it is `end`.
    """
    for note in (committed.metadata or "").split():
        number = note.removeprefix(_WRITTEN)
        if number != note and number.isdecimal():
            return min(end, int(number))
    return end


class CatchUp:
    """The newest change of each contact between the start of an assignment and `end`."""

    def __init__(self, end: int, most_records: int = SPAN_RECORDS) -> None:
        self.end = end
        """What lies from this offset on was not written by a predecessor."""
        self.surveyed = False
        """Whether everything before `end` was read for the first time."""
        self._records_left = most_records
        # Version and offset of each contact's newest change, and the offset of its last one.
        self._newest: dict[str, tuple[int, int, int]] = {}
        self._held_back: set[int] = set()
        self.restored: dict[str, frozenset[str]] = {}
        """By contact, the fields that its changes restore: of all, whichever is written."""
        self.finished: list[int] = []
        """Offsets that may be finished once all was read again."""

    def survey(self, record: KafkaRecord) -> None:
        """A record of the first reading, in the order of the offsets.

        Of equal versions the later offset counts, because dedupe forwarded it on purpose. A record
        that holds no change supersedes none.
        """
        if self.surveyed:
            return
        if record.offset < self.end:
            self._records_left -= 1
            self._note(record)
        if record.offset + 1 >= self.end:
            self.surveyed = True
        elif self._records_left <= 0:
            self.end = record.offset + 1
            self.surveyed = True

    def _note(self, record: KafkaRecord) -> None:
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            return  # the second reading dead-letters it
        if change is None:
            return
        if change.restore:
            self.restored[change.key] = self.restored.get(change.key, change.restore) | (
                change.restore
            )
        known = self._newest.get(change.key)
        if known is None or change.version >= known[0]:
            self._newest[change.key] = (change.version, record.offset, record.offset)
        else:
            self._newest[change.key] = (*known[:2], record.offset)

    def reached_end(self) -> None:
        """The log was read to its end: compaction may have left a hole before `end`."""
        self.surveyed = True

    def is_superseded(self, key: str, offset: int) -> bool:
        """Whether a change of the second reading is not written, because a newer one is."""
        if offset >= self.end or key not in self._newest:
            return False
        version, newest, last = self._newest[key]
        if newest == _TAKEN or newest > offset:
            return True
        if offset < last:
            self._held_back.add(offset)
        if newest == offset:
            self._newest[key] = (version, _TAKEN, last)
        else:  # Compaction has removed the newest since the first reading, because of a later one.
            del self._newest[key]
        return False

    def holds_back(self, offset: int) -> bool:
        """Whether a change that was written is finished only once all was read again.

        Then it is noted in `finished`.
        """
        if offset not in self._held_back:
            return False
        self.finished.append(offset)
        return True
