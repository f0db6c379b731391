"""Plays a labelled world: days of changes, with what people do in the org between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from connectors.salesforce.api.client import Fence, no_fence
from connectors.salesforce.api.composite import SubAnswer, Subrequest
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.outcome import NOT_ATTEMPTED, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.simulator.settings import BadValueError
from connectors.salesforce.simulator.store import Write
from connectors.salesforce.simulator.world import HUMAN_USER, INTEGRATION_USER
from tests.support.labelled_world.model import DAYS, KEY, Act, LabelledWorld, Person
from tests.support.salesforce_org import Composite, SimulatedOrg

DAY_SECONDS = 86_400.0
# Longer than the time for which anything that failed waits before it is asked for again.
PAUSE_SECONDS = 1_000.0
# Attempts of one change, as the sink has them, and pauses for the whole org.
MAX_ATTEMPTS = 12
MAX_PAUSES = 40
PEOPLE = ("Contact", "Lead")
LATE_DAYS = (1, 2)
LATE_KINDS = ("merge:", "deletion:", "conversion:")


class NotThereError(Exception):
    """People cannot do what the world says, because what they would do it with is not there."""


@dataclass(slots=True)
class Stage:
    """The org as people see it, and a record of what they typed."""

    org: SimulatedOrg
    world: LabelledWorld
    person_of_record: dict[str, Person]
    typed: dict[tuple[str, str], Any]
    """The value of each field, by record ID, that somebody typed. None for a field cleared."""

    def ours(self, key: str) -> dict[str, Any]:
        """The living record that holds the contact key; an open Lead or a Contact."""
        for sobject in PEOPLE:
            for row in self.org.records(sobject):
                if row.get(KEY) == key and not row.get("IsConverted"):
                    return row
        raise NotThereError(f"no record has the key {key}")

    def row(self, record_id: str) -> dict[str, Any]:
        """A living record."""
        row = self.org.world.org.tables[sobject_of(record_id)].rows.get(record_id)
        if row is None:
            raise NotThereError(f"there is no record {record_id}")
        return row

    def edit(self, row: dict[str, Any], user: str = HUMAN_USER, **values: Any) -> None:
        """Somebody types these values over those of the record."""
        sobject = sobject_of(row["Id"])
        edited = self.org.world.edit(sobject, row["Id"], values, user)
        for name in values:
            self.typed[row["Id"], name] = edited.get(name)
        if person := self.person_of_record.get(row["Id"]):
            self.world.belongs(person, values)

    def merge(self, master: dict[str, Any], *losers: dict[str, Any]) -> None:
        """Somebody merges records, and keeps the values of the master."""
        sobject = sobject_of(master["Id"])
        if {sobject_of(loser["Id"]) for loser in losers} != {sobject}:
            raise NotThereError("records of different objects cannot be merged")
        self.org.world.merge(sobject, master["Id"], [loser["Id"] for loser in losers])

    def delete(self, row: dict[str, Any]) -> None:
        self.org.world.delete(sobject_of(row["Id"]), row["Id"])

    def undelete(self, record_id: str) -> None:
        self.org.world.undelete(sobject_of(record_id), record_id)

    def convert(self, lead: dict[str, Any], contact_id: str | None = None) -> dict[str, Any]:
        """Somebody converts a Lead; returns the Contact."""
        if sobject_of(lead["Id"]) != "Lead":
            raise NotThereError("only a Lead can be converted")
        contact = self.org.world.convert(lead["Id"], contact_id)
        self.person_of_record.setdefault(contact["Id"], self.person_of_record[lead["Id"]])
        return contact

    def type_in(self, person: Person, sobject: str, **fields: Any) -> str:
        """Somebody types in a new record."""
        whole = {"FirstName": person.first, "LastName": person.last, **fields}
        row = self.org.world.add(sobject, whole, "typed in")
        self.person_of_record[row["Id"]] = person
        self.typed |= {(row["Id"], name): row.get(name) for name in whole}
        self.world.belongs(person, whole)
        return str(row["Id"])

    def change_creator(self, row: dict[str, Any]) -> None:
        """The record was created by another integration user."""
        table = self.org.world.org.tables[sobject_of(row["Id"])]
        table.put({**row, "CreatedById": HUMAN_USER})

    def empty_recycle_bin(self) -> None:
        self.org.world.empty_recycle_bin()


@dataclass(slots=True)
class Played:
    """What happened: the outcomes of each day, and what was written in the last one."""

    stage: Stage
    late: bool = False
    outcomes: dict[int, dict[str, Outcome]] = field(default_factory=dict)
    final: dict[str, Outcome] = field(default_factory=dict)
    rewritten: Sequence[Write] = ()
    undone: list[tuple[Person, str]] = field(default_factory=list)
    """What people wanted to do and could not."""


def sobject_of(record_id: str) -> str:
    return "Lead" if record_id.startswith("00Q") else "Contact"


def _shuffled(changes: Iterable[ContactVersion], order: int | None) -> list[ContactVersion]:
    found = list(changes)
    if order is not None:
        Random(order).shuffle(found)
    return found


async def play(
    org: SimulatedOrg,
    world: LabelledWorld,
    *,
    order: int | None = None,
    size: int = 1000,
    late: bool = False,
) -> Played:
    """Plays all days, then offers every contact once more.

    `order` is the seed by which the contacts of each day are shuffled; without it they arrive as
    the world lists them. `size` is that of the batches. With `late`, people merge, delete and
    convert records between the lookup and the write of the first batches, as far as LATE_DAYS and
    LATE_KINDS go; a contact may then have its right outcome one day later.
    """
    stage = Stage(org, world, dict(world.person_of_record), dict(world.typed))
    played = Played(stage, late)
    for day in DAYS:
        _set_clock(org, org.now + DAY_SECONDS)
        acts = world.acts[day]
        between = [
            (person, act)
            for person, act in acts
            if late and day in LATE_DAYS and person.kind.startswith(LATE_KINDS)
        ]
        _do(played, [act for act in acts if act not in between])
        changes = _shuffled(world.changes[day].values(), order)
        with _before_the_first_write(org, partial(_do, played, between)):
            played.outcomes[day] = await deliver(org, changes, size)
        _assign_created(stage, played.outcomes[day])
        await sweep_deleted(org, org.now - 2 * DAY_SECONDS)
    changes = _shuffled(world.last_changes().values(), order)
    if late:
        await deliver(org, changes, size)
    before = len(org.world.org.writes)
    played.final = await deliver(org, changes, size)
    _assign_created(stage, played.final)
    played.rewritten = org.world.org.writes[before:]
    return played


def _do(played: Played, acts: Iterable[tuple[Person, Act]]) -> None:
    for person, act in acts:
        try:
            act(played.stage)
        except (NotThereError, BadValueError) as error:
            played.undone.append((person, str(error)))


@contextmanager
def _before_the_first_write(org: SimulatedOrg, act: Callable[[], None]) -> Iterator[None]:
    """Acts when the first writes are about to be sent; at the end if there are none."""
    waiting = [act]

    async def intercept(
        composite: Composite, requests: Sequence[Subrequest], kind: str, fence: Fence
    ) -> list[SubAnswer]:
        if waiting and any(request.method != "GET" for request in requests):
            waiting.pop()()
        return await composite(requests, kind, fence)

    org.client.intercept = intercept
    try:
        yield
    finally:
        org.client.intercept = None
    if waiting:
        waiting.pop()()


def _set_clock(org: SimulatedOrg, now: float) -> None:
    """One clock for both sides, so that what was edited later also says so."""
    org.now = now
    org.world.frozen_at = now


async def sweep_deleted(org: SimulatedOrg, since: float) -> None:
    """The daily sweep of the recycle bin, as the sink does it; `since` is in epoch seconds."""
    sync = org.sync
    read_from, done = dict.fromkeys(PEOPLE, int(since)), False
    while not done:
        step = await sync.sweep_deleted(read_from, no_fence)
        for record in step.records:
            sync.deleted_records.remember(record)
        read_from, done = step.read_up_to, step.done


async def deliver(
    org: SimulatedOrg, changes: Sequence[ContactVersion], size: int = 1000
) -> dict[str, Outcome]:
    """Offers changes as the sink does, and again until each has its outcome.

    What is to be retried goes with a later batch. A batch that met a fault of the whole org is
    offered again after a pause. A change that is retried too often keeps its last outcome.
    """
    waiting = list(changes)
    attempts: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    pauses = 0
    while waiting:
        batch, waiting = waiting[:size], waiting[size:]
        try:
            results = await org.sync.sync(batch)
        except OrgUnavailable:
            pauses += 1
            if pauses > MAX_PAUSES:
                raise
            _set_clock(org, org.now + PAUSE_SECONDS)
            waiting = batch + waiting
            continue
        by_key = {change.key: change for change in batch}
        for outcome in results:
            if outcome.status is OutcomeStatus.RETRY:
                waits = outcome.reason in NOT_ATTEMPTED
                tried = attempts[outcome.key] = attempts.get(outcome.key, 0) + (0.1 if waits else 1)
                if tried < MAX_ATTEMPTS:
                    waiting.append(by_key[outcome.key])
                    continue
            outcomes[outcome.key] = outcome
    return outcomes


def _assign_created(stage: Stage, outcomes: dict[str, Outcome]) -> None:
    """Says who the records are that the sync created: those whose key they got first."""
    for write in stage.org.world.org.writes:
        person = stage.world.person_of_key.get(write.key or "")
        if write.created and write.by == INTEGRATION_USER and person is not None:
            stage.person_of_record.setdefault(write.id, person)
    for key, outcome in outcomes.items():
        if outcome.status is OutcomeStatus.CREATED and outcome.record_id:
            stage.person_of_record.setdefault(outcome.record_id, stage.world.person_of_key[key])
