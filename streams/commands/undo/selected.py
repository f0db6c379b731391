"""What an undo would restore, from the entries of contacts.journal: plain functions."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

import click

from connectors.salesforce.restoration import ValueToRestore
from streams.commands.plan_input import PlanError, parse_moment
from streams.journal import EntryKind, JournalEntry
from streams.selection import UnusableSelection, make_selection


class UnusableChoice(ValueError):
    """An undo of something that does not exist, or of an undo."""


@dataclass(frozen=True, slots=True)
class UndoChoice:
    """Which entries an undo is about. All conditions must hold; times are epoch milliseconds."""

    run: str | None = None
    grants: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """`Title` or `Lead.Title`, in any case."""
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def takes_everything(self) -> bool:
        """Whether no condition is set."""
        return self == UndoChoice()

    def takes(self, entry: JournalEntry) -> bool:
        """Whether the entry is one of those that are to be undone."""
        names = {entry.field.lower(), f"{entry.sobject}.{entry.field}".lower()}
        return (
            (self.run is None or entry.run == self.run)
            and (not self.grants or entry.grant in self.grants)
            and (not self.fields or not names.isdisjoint(map(str.lower, self.fields)))
            and (self.since_ms is None or entry.at_ms >= self.since_ms)
            and (self.until_ms is None or entry.at_ms < self.until_ms)
        )


def make_choice(
    run: str | None,
    grants: Iterable[str],
    fields: Iterable[str],
    since: str | None,
    until: str | None,
    clock: Callable[[], float] = time.time,
) -> UndoChoice:
    """The choice of the command's options. Raises click.UsageError for times that hold nothing."""
    now = clock()
    try:
        since_ms = None if since is None else int(parse_moment(since, now) * 1000)
        until_ms = None if until is None else int(parse_moment(until, now, "--until") * 1000)
        limits = make_selection(now_ms=int(now * 1000), since_ms=since_ms, until_ms=until_ms)
    except (UnusableSelection, PlanError) as error:
        raise click.UsageError(str(error)) from error
    return UndoChoice(
        run, tuple(dict.fromkeys(grants)), tuple(fields), limits.since_ms, limits.until_ms
    )


@dataclass(frozen=True, slots=True)
class CreatedRecord:
    """A record that contactstream created. `at_ms` is when, in epoch milliseconds."""

    sobject: str
    record_id: str
    contact_key: str
    run: str
    at_ms: int


@dataclass(slots=True)
class _History:
    """What the journal says of one field of one record, as far as it is to be undone."""

    value: ValueToRestore | None
    """None once something happened that is not to be undone."""
    contact_key: str
    change: str
    """The change that wrote it last."""
    before: ValueToRestore | None
    """The value before that change; None if there was none to restore."""
    undone: bool = False


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What an undo would do, before the org is asked."""

    values: dict[ValueToRestore, str]
    """By value to restore, the contact whose change replaced it."""
    created: list[CreatedRecord]
    written_since: int
    """Fields that contactstream wrote again later, by a change that is not to be undone."""
    undone: int
    """Fields that an undo restored already."""

    @property
    def by_field(self) -> Counter[str]:
        """How many values there are, by `Lead.Title`."""
        return Counter(f"{value.sobject}.{value.field}" for value in self.values)


@dataclass(slots=True)
class UndoReader:
    """Reads the journal from its start, for one choice."""

    choice: UndoChoice
    runs: set[str] = field(default_factory=set)
    undos: set[str] = field(default_factory=set)
    grants: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    _histories: dict[tuple[str, str], _History] = field(default_factory=dict)
    _created: dict[str, CreatedRecord] = field(default_factory=dict)

    def read(self, entries: Iterable[JournalEntry]) -> UndoPlan:
        """What the undo would do. The entries come in the order of the topic."""
        for entry in entries:
            self._note_names(entry)
            if entry.kind is EntryKind.CREATED:
                if self.choice.takes(entry):
                    self._created[entry.record_id] = CreatedRecord(
                        entry.sobject, entry.record_id, entry.contact_key, entry.run, entry.at_ms
                    )
            elif entry.kind is EntryKind.RESTORED:
                self._restored(entry)
            else:
                self._replaced(entry)
        histories = list(self._histories.values())
        return UndoPlan(
            {one.value: one.contact_key for one in histories if one.value is not None},
            list(self._created.values()),
            sum(one.value is None and not one.undone for one in histories),
            sum(one.undone for one in histories),
        )

    def _note_names(self, entry: JournalEntry) -> None:
        """Names by which the user may have chosen."""
        if entry.run:
            (self.undos if entry.kind is EntryKind.RESTORED else self.runs).add(entry.run)
        self.grants.add(entry.grant)
        if entry.field:
            self.fields |= {entry.field, f"{entry.sobject}.{entry.field}"}

    def _restored(self, entry: JournalEntry) -> None:
        if known := self._histories.get((entry.record_id, entry.field)):
            known.value, known.undone = None, True

    def _replaced(self, entry: JournalEntry) -> None:
        """The former value is that before the first of the writes that follow one another.

        What somebody else wrote between two of ours is a former value of its own.
        """
        place = entry.record_id, entry.field
        known = self._histories.get(place)
        if not self.choice.takes(entry):
            if known is not None:
                known.value, known.undone = None, False
            return
        before = None if known is None else known.value
        if known is not None and known.change == entry.change:
            before = known.before  # the entry of the same change, written again
        wanted = entry.old
        if before is not None and before.ours == entry.old:
            wanted = before.wanted
        value = ValueToRestore(entry.sobject, entry.record_id, entry.field, wanted, entry.new)
        self._histories[place] = _History(value, entry.contact_key, entry.change, before)

    def check(self, known_runs: Iterable[str]) -> None:
        """Checks that what the choice names exists; after `read`.

        `known_runs` are those of reader.runs. Raises UnusableChoice with what to do instead.
        """
        choice = self.choice
        if choice.run in self.undos:
            raise UnusableChoice(
                f"{choice.run} is an undo, and an undo cannot be undone: the values that it "
                "restored count as people's. To write the contacts' values again: "
                "contactstream replay changes --restore FIELD"
            )
        runs = self.runs | {*known_runs}
        if choice.run is not None and choice.run not in runs:
            raise UnusableChoice(_unknown("RUN", choice.run, runs, "see contactstream runs"))
        for grant in choice.grants:
            if grant not in self.grants:
                raise UnusableChoice(
                    _unknown("--grant", grant, self.grants, "see contactstream grants list")
                )
        known = {name.lower(): name for name in self.fields}
        for name in choice.fields:
            if name.lower() not in known:
                fields = sorted(each for each in self.fields if "." in each)
                remedy = "no value was replaced so far"
                if fields:
                    remedy = f"fields with replaced values are {', '.join(fields)}"
                raise UnusableChoice(_unknown("--field", name, self.fields, remedy))


def _unknown(what: str, given: str, known: Iterable[str], remedy: str) -> str:
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(given.lower(), by_lower, 1)
    hint = f"did you mean {by_lower[close[0]]}? Otherwise {remedy}" if close else remedy
    return f"{what} {given}: the journal has nothing of it; {hint}"
