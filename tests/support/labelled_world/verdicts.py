"""The examiner: compares what happened in a labelled world with what would have been right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.simulator.world import INTEGRATION_USER
from tests.support.labelled_world.model import (
    EMAILS,
    KEY,
    Expected,
    LabelledWorld,
    Person,
    Right,
    Target,
    Verdict,
    words,
)
from tests.support.labelled_world.play import LATE_KINDS, PEOPLE, Played, sobject_of

_HAS_RECORD = frozenset(
    {
        OutcomeStatus.CREATED,
        OutcomeStatus.UPDATED,
        OutcomeStatus.FILLED,
        OutcomeStatus.UNCHANGED,
    }
)
_NO_NAME = words("[not provided]")
_NO_RECORD = {Right.COVERED: "covered", Right.AMBIGUOUS: "ambiguous", Right.SKIPPED: "skipped"}


@dataclass(slots=True)
class Verdicts:
    """What went wrong: person and text by list."""

    found: dict[Verdict, dict[tuple[Person | None, str], None]] = field(
        default_factory=lambda: {verdict: {} for verdict in Verdict}
    )

    def add(self, verdict: Verdict, person: Person | None, text: str) -> None:
        self.found[verdict][person, text] = None

    def counts(self) -> dict[str, int]:
        """How many people are in each list that is not empty."""
        return {
            verdict.name: len({person for person, _ in found})
            for verdict, found in self.found.items()
            if found
        }

    def __str__(self) -> str:
        lines = []
        for verdict, found in self.found.items():
            if found:
                lines.append(f"{verdict.name}, {verdict.value}:")
                lines += [f"    {person or 'nobody'}: {text}" for person, text in found]
        return "\n".join(lines)


def examine(world: LabelledWorld, played: Played) -> Verdicts:
    """All that went wrong; empty lists if everything is right."""
    verdicts = Verdicts()
    for person, why in played.undone:
        verdicts.add(Verdict.MISSED, person, f"people had nothing to work with: {why}")
    for day, outcomes in played.outcomes.items():
        expected = world.expected[day]
        if played.late:
            expected = {
                key: right
                for key, right in expected.items()
                if not world.person_of_key[key].kind.startswith(LATE_KINDS)
            }
        _judge_day(world, played, f"day {day}", expected, outcomes, verdicts)
    _judge_day(
        world, played, "in the end", world.last_expected(), played.final, verdicts, last=True
    )
    _judge_writes(world, played, verdicts)
    _judge_duplicates(played, verdicts)
    _judge_typed(played, verdicts)
    _judge_held(world, played, verdicts)
    for write in played.rewritten:
        whose = played.stage.person_of_record.get(write.id)
        verdicts.add(Verdict.REWRITTEN, whose, f"{write.sobject} {dict(write.fields)}")
    return verdicts


def _judge_day(
    world: LabelledWorld,
    played: Played,
    when: str,
    expected: dict[str, Expected],
    outcomes: dict[str, Outcome],
    verdicts: Verdicts,
    last: bool = False,
) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, right in expected.items():
        person = world.person_of_key[key]
        outcome = outcomes.get(key)
        if outcome is None:
            verdicts.add(right.wrong, person, f"{when}: no outcome")
        elif right.group:
            groups[right.group].append(key)
        elif right.right is Right.RECORD:
            _judge_record(played, when, person, right, outcome, verdicts, last)
        elif right.right is not Right.ANY:
            _judge_no_record(when, person, right, outcome, verdicts)
    for name, keys in groups.items():
        _judge_group(world, played, when, name, keys, outcomes, verdicts)


def _told(outcome: Outcome) -> str:
    reason = f" ({outcome.reason})" if outcome.reason else ""
    errors = "".join(f" {error.code}: {error.message}" for error in outcome.errors)
    return f"{outcome.status.value}{reason} {outcome.record_id or ''}{errors}".strip()


def _judge_record(
    played: Played,
    when: str,
    person: Person,
    right: Expected,
    outcome: Outcome,
    verdicts: Verdicts,
    last: bool,
) -> None:
    if outcome.status not in _HAS_RECORD:
        verdicts.add(right.wrong, person, f"{when}: {_told(outcome)} instead of its record")
        return
    other = played.stage.person_of_record.get(outcome.record_id or "")
    if other is not person:
        verdicts.add(Verdict.WRONG_PERSON, person, f"{when}: {_told(outcome)}, which is {other}")
    elif outcome.status is OutcomeStatus.CREATED and right.target is None:
        verdicts.add(right.wrong, person, f"{when}: created although it is there")
    elif right.target is not None:
        if outcome.record_id in _created_by_us(played):
            _judge_target(played, when, person, right.target, outcome.record_id or "", verdicts)
    elif right.record is not None and outcome.record_id != right.record:
        text = f"{when}: {_told(outcome)}, and not {right.record}"
        verdicts.add(right.wrong, person, text)
    elif last and outcome.record_id not in _living(played):
        verdicts.add(right.wrong, person, f"{when}: {_told(outcome)}, which is no living record")


def _judge_target(
    played: Played,
    when: str,
    person: Person,
    target: Target,
    record_id: str,
    verdicts: Verdicts,
) -> None:
    table = played.stage.org.world.org.tables[sobject_of(record_id)]
    row = table.rows.get(record_id) or table.bin.get(record_id) or {}
    sobject = sobject_of(record_id)
    if sobject != target.sobject:
        verdicts.add(
            Verdict.WRONG_TARGET, person, f"{when}: a {sobject} instead of a {target.sobject}"
        )
    elif row and sobject == "Contact" and row.get("AccountId") != target.account:
        text = f"{when}: under {row.get('AccountId')} instead of {target.account}"
        verdicts.add(Verdict.WRONG_TARGET, person, text)
    elif row and target.company is not None and (row.get("Company") or "") != target.company:
        text = f"{when}: company {row.get('Company')!r} instead of {target.company!r}"
        verdicts.add(Verdict.WRONG_TARGET, person, text)


def _judge_no_record(
    when: str, person: Person, right: Expected, outcome: Outcome, verdicts: Verdicts
) -> None:
    wanted = _NO_RECORD[right.right]
    same_reason = not right.reason or outcome.reason == right.reason
    if outcome.status.value != wanted or not same_reason:
        reason = f" ({right.reason})" if right.reason else ""
        text = f"{when}: {_told(outcome)} instead of {wanted}{reason}"
        verdicts.add(right.wrong, person, text)


def _judge_group(
    world: LabelledWorld,
    played: Played,
    when: str,
    name: str,
    keys: list[str],
    outcomes: dict[str, Outcome],
    verdicts: Verdicts,
) -> None:
    """Exactly one of the people has its record, and covers the others."""
    have = [key for key in keys if outcomes[key].status in _HAS_RECORD]
    for key in have:
        person = world.person_of_key[key]
        if played.stage.person_of_record.get(outcomes[key].record_id or "") is not person:
            text = f"{when}: {_told(outcomes[key])}, which is somebody else's"
            verdicts.add(Verdict.WRONG_PERSON, person, text)
    persons = {world.person_of_key[key] for key in have}
    others = [key for key in keys if key not in have]
    if len(persons) != 1 or any(outcomes[key].status.value != "covered" for key in others):
        told = "; ".join(f"{world.person_of_key[key]}: {_told(outcomes[key])}" for key in keys)
        text = f"{when}: exactly one of {name} has its record and the others are covered: {told}"
        verdicts.add(Verdict.WRONG_OUTCOME, world.person_of_key[keys[0]], text)


def _judge_writes(world: LabelledWorld, played: Played, verdicts: Verdicts) -> None:
    """Everything that was ever written belongs to the person whose record it is."""
    owners = world.owners()
    for write in played.stage.org.world.org.writes:
        if write.by != INTEGRATION_USER or write.sobject not in PEOPLE:
            continue
        person = played.stage.person_of_record.get(write.id)
        for name, value in write.fields.items():
            if not isinstance(value, str):
                continue
            if foreign := _whose(world, owners, name, value, person):
                text = f"{name} of {write.sobject} {write.id} became {value!r}, which is {foreign}"
                verdicts.add(Verdict.WRONG_PERSON, person, text)


def _whose(
    world: LabelledWorld,
    owners: dict[str, set[Person]],
    name: str,
    value: str,
    person: Person | None,
) -> str:
    """Whose a written value is, if it is not that of the record's person."""
    if name == KEY:
        owner = world.person_of_key.get(value)
        return "" if owner is person else f"the key of {owner}"
    if name in ("Title", "Phone", "MobilePhone", *EMAILS):
        found = owners.get(value.lower(), set())
        return "" if not found or person in found else f"of {', '.join(map(str, found))}"
    if name in ("FirstName", "LastName") and person is not None:
        return "" if words(value) <= person.names | _NO_NAME else "no name of this person"
    return ""


def _created_by_us(played: Played) -> set[str]:
    return {
        write.id
        for write in played.stage.org.world.org.writes
        if write.created and write.by == INTEGRATION_USER
    }


def _living(played: Played) -> dict[str, dict[str, Any]]:
    return {row["Id"]: row for row in played.stage.org.people()}


def _judge_duplicates(played: Played, verdicts: Verdicts) -> None:
    ours = _created_by_us(played)
    records: dict[Person, list[str]] = defaultdict(list)
    for record_id in _living(played):
        if person := played.stage.person_of_record.get(record_id):
            records[person].append(record_id)
    for person, found in records.items():
        if len(found) > 1 and ours.intersection(found):
            verdicts.add(Verdict.DUPLICATE, person, " and ".join(found))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.strip().lower() == right.strip().lower()
    return (left or None) == (right or None)


def _judge_typed(played: Played, verdicts: Verdicts) -> None:
    living = _living(played)
    for (record_id, name), value in played.stage.typed.items():
        row = living.get(record_id)
        if row is not None and not _same(row.get(name), value):
            person = played.stage.person_of_record.get(record_id)
            text = f"{name} {value!r} of {record_id} became {row.get(name)!r}"
            verdicts.add(Verdict.REVERTED, person, text)


def _judge_held(world: LabelledWorld, played: Played, verdicts: Verdicts) -> None:
    records: dict[Person, list[dict[str, Any]]] = defaultdict(list)
    for record_id, row in _living(played).items():
        if person := played.stage.person_of_record.get(record_id):
            records[person].append(row)
    for person, name, value in world.held:
        rows = records.get(person, [])
        if name == "address":
            held = any(_same(row.get(field), value) for row in rows for field in EMAILS)
        else:
            held = any(_same(row.get(name), value) for row in rows)
        if not held:
            there = [row.get(name) for row in rows]
            text = f"no record has the {name} {value!r}, but {there}"
            verdicts.add(Verdict.NOT_UPDATED, person, text)
