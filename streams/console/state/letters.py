"""The open dead letters, without their values, kept current record by record."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from streams.commands.dead_letters.open_letters import (
    LetterScan,
    OpenLetter,
    masked_contact,
    open_letter,
)
from streams.dead_letters import parse_dead_letter
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.selection import Candidate, Selection
from streams.topics import Topics

# Some 600 bytes each, so 60 MB. Whoever has more has one cause for nearly all of them.
MAX_LETTERS = 100_000


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many letters are open, and since when the oldest waits."""

    by_reason: Counter[str]
    oldest_ms: int | None
    """Its last failure, in epoch milliseconds; None without an open letter."""


class LetterState:
    """Takes the records of contacts.dead-letter in their order."""

    def __init__(self, topics: Topics, max_letters: int = MAX_LETTERS) -> None:
        self._topics, self._max_letters = topics, max_letters
        self._found = LetterScan()
        self._next_offset = 0
        self.not_held = 0
        """Letters that were left out because too many are open. They may be closed since."""

    def take(self, record: KafkaRecord) -> None:
        """Takes the next record in. One that is no letter of this version is counted."""
        if record.offset < self._next_offset:  # the log was lost, and is read again
            self._found, self.not_held = LetterScan(), 0
        self._next_offset = record.offset + 1
        letters = self._found.letters
        identity: bytes | int = record.offset if record.key is None else record.key
        letters.pop(identity, None)
        try:
            letter = parse_dead_letter(record)
        except UnreadableRecord:
            self._found.unreadable += 1
            return
        if letter is None:
            return
        if len(letters) >= self._max_letters:
            self.not_held += 1
            return
        letters[identity] = open_letter(record, letter, self._topics)
        if letter.reason not in self._found.samples:
            self._found.samples[letter.reason] = masked_contact(letter, self._topics)

    @property
    def unreadable(self) -> int:
        """Records that are no dead letters, or of a newer version."""
        return self._found.unreadable

    def backlog(self) -> Backlog:
        """The open letters by reason, and the age of the oldest."""
        letters = self._found.letters.values()
        return Backlog(
            Counter(each.reason for each in letters),
            min((each.last_failed_ms for each in letters), default=None),
        )

    def get(self, letter_id: str) -> OpenLetter | None:
        """The open letter of an ID; None if it is closed or unknown."""
        found = self._found.letters.get(letter_id.encode(errors="surrogatepass"))
        if found is not None:
            return found
        letters = self._found.letters.values()
        return next((each for each in letters if each.letter_id == letter_id), None)

    def selected(
        self, selection: Selection, takes: Callable[[OpenLetter], bool] = lambda _: True
    ) -> list[OpenLetter]:
        """The letters that a selection takes, by the offsets of their records.

        The selection must not ask for addresses, domains and outcomes: no letter is held with its
        value. `takes` is a further condition.
        """
        found = [
            each
            for each in self._found.letters.values()
            if (not selection.reasons or each.reason in selection.reasons)
            and selection.takes(_candidate(each))
            and takes(each)
        ]
        return sorted(found, key=lambda each: each.offset)

    def scan_of(self, letters: Iterable[OpenLetter]) -> LetterScan:
        """These letters as the reports of the command take them."""
        kept: dict[bytes | int, OpenLetter] = {
            each.offset if each.key is None else each.key: each for each in letters
        }
        return LetterScan(kept, self._found.samples)


def _candidate(letter: OpenLetter) -> Candidate:
    return Candidate(letter.contact_key, letter.last_failed_ms, letter.kind, ())
