"""What is recorded of a storm or a scenario for the verifier: plain data, without any judgement."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StoredRecord:
    """A record of a topic."""

    partition: int
    offset: int
    key: str
    value: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """Offsets at one moment.

    The committed ones were read first, the ends of the result topics after them.
    """

    dedupe_committed: Mapping[int, int]
    """By partition of contacts.events."""
    sink_committed: int
    changes_end: int
    outcomes_end: int
    refetch_end: int
    dead_letter_end: int
    reader_committed: int = 0
    """Of contacts.refetch."""
    events_end: Mapping[int, int] = field(default_factory=dict)
    """By partition."""


@dataclass(frozen=True)
class Write:
    """A row that the org applied; key and version are those of the record after it."""

    sequence: int
    """The order in which the org applied the rows."""
    record_id: str
    key: str | None
    version: int | None


@dataclass(frozen=True)
class FinalBook:
    """The address book of a grant without notifications, as it was when it was last read whole."""

    grant: str
    contacts: Mapping[str, Mapping[str, Any]]
    """By contact ID."""


@dataclass(frozen=True)
class Evidence:
    """Everything recorded during a storm or a scenario."""

    acknowledged: Sequence[str]
    """IDs of the notifications that were answered with 200."""
    events: Sequence[StoredRecord]
    changes: Sequence[StoredRecord]
    outcomes: Sequence[StoredRecord]
    refetch: Sequence[StoredRecord]
    dead_letters: Sequence[StoredRecord]
    writes: Sequence[Write]
    org: Sequence[Mapping[str, Any]]
    """The Contacts and Leads of the org at the end, with their Id, the standard fields and ours."""
    lost_outcomes: Sequence[StoredRecord] = ()
    """Records of contacts.outcomes that a fault has removed: they were there when the samples
    before the fault were taken.
    """
    samples: Sequence[Sample] = ()
    least_samples: int = 0
    grants: Collection[str] = ()
    """The grants that Nylas knows. Without any, the requests of contacts.refetch had no answer."""
    book: FinalBook | None = None
    refusal: str = ""
    """The message with which the org refused rows on purpose."""
    refused: int = 0
    """How many rows it refused on purpose."""


@dataclass
class Verdict:
    """The broken promises, with up to five examples of each."""

    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    checked: Counter[str] = field(default_factory=Counter)
    """How many of each kind of thing were checked."""

    def add(self, name: str, example: str) -> None:
        """Counts one violation."""
        self.violations[name] += 1
        if len(self.examples[name]) < 5:
            self.examples[name].append(example)

    @property
    def good(self) -> bool:
        """Whether no promise was broken."""
        return not self.violations
