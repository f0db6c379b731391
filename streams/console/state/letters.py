"""The open dead letters, without their values, kept current record by record."""

from collections import Counter
from collections.abc import Mapping
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

# Some 950 bytes each, so 95 MB. Whoever has more has one cause for nearly all of them.
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
    def samples(self) -> Mapping[str, str]:
        """By reason, one contact with its values masked."""
        return self._found.samples

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

    def all(self) -> list[OpenLetter]:
        """The open letters, by the offsets of their records."""
        return self._found.in_order


def takes(selection: Selection, letter: OpenLetter) -> bool:
    """Whether a selection takes a letter.

    It must not ask for addresses, domains and outcomes: no letter is held with its value.
    """
    if selection.reasons and letter.reason not in selection.reasons:
        return False
    candidate = Candidate(letter.contact_key, letter.last_failed_ms, letter.kind, ())
    return selection.takes(candidate)
