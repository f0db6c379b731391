"""What became of the people: counts in total and by grant, lists, and the match rate by day.

Plain data, from the records of contacts.outcomes in their order. `stale` counts as a record: the
org holds a newer version of the contact.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from heapq import nsmallest
from typing import Any, NamedTuple

import orjson

from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import grant_of
from connectors.salesforce.skip_reasons import SkipReason
from streams.console.state.table import PeopleTable, PersonEntry
from streams.events import Kind, Origin
from streams.kafka.records import KafkaRecord

# People of a list, the newest: 5 MB each. Nobody reads a longer one, and `review` prints all.
MAX_LISTED = 10_000

# Records that a listed person may be. The console shows them as links.
MAX_CANDIDATES = 10

# Grants that are counted one by one, some 300 bytes each; the others together.
MAX_GRANTS = 50_000

# Days of the match rate. contacts.outcomes is compacted, so that most of a first lookup's records
# are gone after two weeks.
MAX_DAYS = 92

DAY_MS = 86_400_000

# The number of the grants beyond MAX_GRANTS, and its name.
_OTHER = 0
OTHER = "other"


class Standing(IntEnum):
    """What a contact is to Salesforce after its last outcome."""

    GONE = 0
    """Deleted at Nylas, or released."""
    SKIPPED = 1
    """Left out on purpose."""
    WITH_RECORD = 2
    COVERED = 3
    """A record of another person has its address: activity capture finds somebody."""
    AMBIGUOUS = 4
    FAILED = 5
    """The last attempt failed. There may be a record from before."""
    HELD = 6
    """Beyond a limit: it waits for a person."""
    PLANNED = 7
    """Looked up in the mode report-only. There may be a record from before."""


ELIGIBLE = (
    Standing.WITH_RECORD,
    Standing.COVERED,
    Standing.AMBIGUOUS,
    Standing.FAILED,
    Standing.HELD,
    Standing.PLANNED,
)

_STANDINGS: Mapping[str, Standing] = {
    OutcomeStatus.CREATED.value: Standing.WITH_RECORD,
    OutcomeStatus.UPDATED.value: Standing.WITH_RECORD,
    OutcomeStatus.FILLED.value: Standing.WITH_RECORD,
    OutcomeStatus.UNCHANGED.value: Standing.WITH_RECORD,
    OutcomeStatus.STALE.value: Standing.WITH_RECORD,
    OutcomeStatus.COVERED.value: Standing.COVERED,
    OutcomeStatus.AMBIGUOUS.value: Standing.AMBIGUOUS,
    OutcomeStatus.FAILED.value: Standing.FAILED,
    OutcomeStatus.SKIPPED.value: Standing.SKIPPED,
    OutcomeStatus.RELEASED.value: Standing.GONE,
    OutcomeStatus.HELD.value: Standing.HELD,
    OutcomeStatus.PLANNED.value: Standing.PLANNED,
}


class Code(NamedTuple):
    """An outcome as the table holds it: as a number."""

    status: str
    reason: str
    """Of a skipped contact; empty otherwise."""
    standing: Standing


_UNKNOWN_REASON = "unknown"
CODES: tuple[Code, ...] = (
    *(Code(status, "", standing) for status, standing in _STANDINGS.items()),
    *(Code("skipped", reason.value, Standing.SKIPPED) for reason in SkipReason),
    Code("skipped", _UNKNOWN_REASON, Standing.SKIPPED),
    # What a deletion came to, whatever that was; but not `stale`: then the contact lives.
    Code("deleted", "", Standing.GONE),
)
_NUMBERS = {(code.status, code.reason): number for number, code in enumerate(CODES)}


def code_of(outcome: Mapping[str, Any]) -> int | None:
    """The number of the code of an outcome; None for a status that this version does not know."""
    status = str(outcome.get("outcome"))
    if outcome.get("kind") == Kind.DELETED.value and status != OutcomeStatus.STALE.value:
        return _NUMBERS["deleted", ""]
    if status == OutcomeStatus.SKIPPED.value:
        reason = str(outcome.get("reason"))
        return _NUMBERS.get((status, reason), _NUMBERS[status, _UNKNOWN_REASON])
    return _NUMBERS.get((status, ""))


@dataclass(frozen=True, slots=True)
class ListedPerson:
    """A covered, ambiguous or held contact.

    `since_ms` is the first outcome of this kind without another one after it, as far as the topic
    still holds it. `records` are IDs in Salesforce, the one in use first.
    """

    key: str
    standing: Standing
    since_ms: int
    at_ms: int
    records: tuple[str, ...]
    reason: str = ""
    """Which limit holds it."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many contacts, by their standing."""

    by_standing: Mapping[Standing, int]

    @property
    def eligible(self) -> int:
        """Those that are not skipped on purpose, and not deleted."""
        return sum(self.by_standing[each] for each in ELIGIBLE)

    @property
    def with_record(self) -> int:
        """Those for which there is a record of their own."""
        return self.by_standing[Standing.WITH_RECORD]

    @property
    def share(self) -> float | None:
        """The share of eligible contacts with a record; None without an eligible one."""
        return self.with_record / self.eligible if self.eligible else None


@dataclass(frozen=True, slots=True)
class GrantCoverage:
    """The coverage of one grant, or of the `other` ones."""

    grant: str
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class MatchDay:
    """First lookups of a day, in UTC."""

    day_ms: int
    found: int
    created: int

    @property
    def rate(self) -> float | None:
        """The share that was found; None without a lookup."""
        looked_up = self.found + self.created
        return self.found / looked_up if looked_up else None


class _GrantCounts:
    """Numbers of grants, and how many contacts of each have which standing."""

    def __init__(self, max_grants: int) -> None:
        self._max_grants = max_grants
        self._numbers: dict[str, int] = {OTHER: _OTHER}
        self._counts = {standing: array("I", [0]) for standing in Standing}

    def number(self, grant: str) -> int:
        """The number of a grant."""
        number = self._numbers.get(grant)
        if number is None:
            if len(self._numbers) > self._max_grants:
                return _OTHER
            number = self._numbers[grant] = len(self._numbers)
            for counts in self._counts.values():
                counts.append(0)
        return number

    def known(self, grant: str) -> int | None:
        """The number of a grant that has one."""
        return self._numbers.get(grant)

    def add(self, number: int, standing: Standing, contacts: int) -> None:
        """So many contacts more, or fewer, have the standing."""
        self._counts[standing][number] += contacts

    def coverage(self, number: int) -> Coverage:
        """The coverage of a grant."""
        return Coverage({each: counts[number] for each, counts in self._counts.items()})

    def largest(self, most: int) -> list[str]:
        """The grants with the most eligible contacts, without the `other` ones."""
        sizes = list(map(sum, zip(*(self._counts[each] for each in ELIGIBLE), strict=True)))
        named = ((name, number) for name, number in self._numbers.items() if number != _OTHER)
        found = nsmallest(most, named, key=lambda each: (-sizes[each[1]], each[0]))
        return [name for name, _ in found]

    def total(self) -> Coverage:
        """The coverage of all grants together."""
        return Coverage({each: sum(counts) for each, counts in self._counts.items()})


class PeopleState:
    """Takes the records of contacts.outcomes in their order.

    Memory: the table, at most MAX_LISTED people a list, MAX_GRANTS grants, and MAX_DAYS days.
    """

    def __init__(
        self, max_listed: int = MAX_LISTED, max_grants: int = MAX_GRANTS, slots: int | None = None
    ) -> None:
        self._max_listed, self._max_grants = max_listed, max_grants
        self._table = PeopleTable() if slots is None else PeopleTable(slots)
        self._codes = Counter[int]()
        self._grants = _GrantCounts(max_grants)
        self._days: dict[int, list[int]] = {}
        self._lists: dict[Standing, OrderedDict[str, ListedPerson]] = {
            Standing.COVERED: OrderedDict(),
            Standing.AMBIGUOUS: OrderedDict(),
            Standing.HELD: OrderedDict(),
        }
        self._next_offset = 0
        self.newest_ms = 0
        """The time of the newest outcome; 0 before the first."""
        self.not_counted = 0
        """Outcomes that are not counted: the table is full, or they are of another version."""

    def take(self, record: KafkaRecord) -> None:
        """Takes the next record in. One that is no outcome is counted in `not_counted`."""
        if record.offset < self._next_offset:
            self._start_over()  # the log was lost, and is read again from its start
        self._next_offset = record.offset + 1
        key = record.key or b""
        if record.value is None:
            self._forget(key)
            return
        outcome = _parsed(record.value)
        number = None if outcome is None else code_of(outcome)
        if outcome is None or number is None:
            self.not_counted += 1
            return
        self._count(key, number, outcome)

    def _start_over(self) -> None:
        self._table.clear()
        self._codes.clear()
        self._grants = _GrantCounts(self._max_grants)
        self._days.clear()
        for listed in self._lists.values():
            listed.clear()
        self.newest_ms = self.not_counted = 0

    def _count(self, key: bytes, number: int, outcome: Mapping[str, Any]) -> None:
        name = key.decode(errors="replace")
        before = self._table.get(key)
        grant = self._grants.number(grant_of(name)) if before is None else before.grant
        version = outcome.get("version")
        entry = PersonEntry(number, grant, version if isinstance(version, int) else 0)
        if not self._table.put(key, entry):
            self.not_counted += 1
            return
        if before is not None:
            self._add(before, -1)
        self._add(entry, 1)
        at_ms = outcome.get("at_ms")
        at_ms = at_ms if isinstance(at_ms, int) and at_ms > 0 else 0
        self.newest_ms = max(self.newest_ms, at_ms)
        self._list(name, CODES[number].standing, at_ms, outcome)
        if outcome.get("first") is True and outcome.get("origin") != Origin.REPLAY.value:
            self._count_lookup(at_ms, found=outcome.get("matched") is not None)

    def _forget(self, key: bytes) -> None:
        before = self._table.get(key)
        if before is not None:
            self._add(before, -1)
            self._table.remove(key)
            self._unlist(key.decode(errors="replace"))

    def _add(self, entry: PersonEntry, contacts: int) -> None:
        self._codes[entry.code] += contacts
        self._grants.add(entry.grant, CODES[entry.code].standing, contacts)

    def _list(self, key: str, standing: Standing, at_ms: int, outcome: Mapping[str, Any]) -> None:
        before = self._unlist(key)
        if standing not in self._lists:
            return
        again = before is not None and before.standing is standing
        since_ms = before.since_ms if before is not None and again else at_ms
        listed = self._lists[standing]
        reason = str(outcome.get("reason") or "") if standing is Standing.HELD else ""
        listed[key] = ListedPerson(key, standing, since_ms, at_ms, _record_ids(outcome), reason)
        if len(listed) > self._max_listed:
            listed.popitem(last=False)

    def _unlist(self, key: str) -> ListedPerson | None:
        for listed in self._lists.values():
            if (person := listed.pop(key, None)) is not None:
                return person
        return None

    def _count_lookup(self, at_ms: int, *, found: bool) -> None:
        day = self._days.setdefault(at_ms // DAY_MS, [0, 0])
        day[not found] += 1
        if len(self._days) > MAX_DAYS:
            del self._days[min(self._days)]

    @property
    def contacts(self) -> int:
        """How many contacts have an outcome."""
        return len(self._table)

    @property
    def table_bytes(self) -> int:
        """Memory of the table of contacts."""
        return self._table.size_bytes

    def coverage(self) -> Coverage:
        """All contacts by their standing."""
        counts = dict.fromkeys(Standing, 0)
        for number, contacts in self._codes.items():
            counts[CODES[number].standing] += contacts
        return Coverage(counts)

    def by_status(self) -> dict[str, int]:
        """Contacts by the status of their last outcome; those of deletions count as `deleted`."""
        counts = Counter[str]()
        for number, contacts in self._codes.items():
            counts[CODES[number].status] += contacts
        return {status: contacts for status, contacts in counts.items() if contacts}

    def skipped(self) -> dict[str, int]:
        """Skipped contacts by reason, the most frequent first."""
        return {
            CODES[number].reason: contacts
            for number, contacts in self._codes.most_common()
            if contacts and CODES[number].standing is Standing.SKIPPED
        }

    def grants(self, largest: int) -> list[GrantCoverage]:
        """The coverage of the grants with the most eligible contacts, and of the `other` ones."""
        found = [
            GrantCoverage(name, coverage)
            for name in self._grants.largest(largest)
            if (coverage := self.grant(name)) is not None
        ]
        rest = Counter(self._grants.total().by_standing)
        for each in found:
            rest.subtract(each.coverage.by_standing)
        return [*found, GrantCoverage(OTHER, Coverage(rest))]

    def grant(self, name: str) -> Coverage | None:
        """The coverage of one grant; None if none of its contacts has an outcome."""
        number = self._grants.known(name)
        return None if number is None or number == _OTHER else self._grants.coverage(number)

    def listed(self, standing: Standing, grant: str = "") -> list[ListedPerson]:
        """Covered, ambiguous or held people, the newest first; of one grant where one is named."""
        people = reversed(self._lists[standing].values())
        return [each for each in people if not grant or grant_of(each.key) == grant]

    def match_days(self) -> list[MatchDay]:
        """The first lookups by day, the oldest first."""
        return [MatchDay(day * DAY_MS, *self._days[day]) for day in sorted(self._days)]

    def last(self, key: str) -> tuple[Code, int] | None:
        """Code and version of the last outcome of a contact; None without one."""
        entry = self._table.get(key.encode(errors="surrogatepass"))
        return None if entry is None else (CODES[entry.code], entry.version)


def _parsed(value: bytes) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _record_ids(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    candidates = outcome.get("candidates")
    named = [outcome.get("id"), *(candidates if isinstance(candidates, list) else ())]
    return tuple(dict.fromkeys(str(each) for each in named if each))[:MAX_CANDIDATES]
