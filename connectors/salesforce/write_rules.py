"""What one batch may write: its mode, and which rows are held until a person releases them.

Plain functions over plain data; the caller of `Sync` decides what is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from connectors.salesforce.outcome import Outcome, OutcomeStatus
from connectors.salesforce.planner import PlannedOutcome, rows
from connectors.salesforce.replaced_values import values_replaced_by
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.write_mode import WriteMode

PLANNED_CREATION = "create"
"""The reason of the outcome `planned` of somebody who would have been created."""

_PLANNED_REASONS = {
    OutcomeStatus.CREATED: PLANNED_CREATION,
    OutcomeStatus.UPDATED: "update",
    OutcomeStatus.FILLED: "fill",
    OutcomeStatus.RELEASED: "release",
}
"""The reasons of the outcome `planned`: what would have been done."""


@dataclass(frozen=True, slots=True)
class IntendedWrite:
    """A row that would be written now."""

    key: str
    """The contact that it is written for; of several, the one that owns the record."""
    creates: bool
    """Whether it creates a record."""
    replaced: int
    """How many values of the org it replaces that are not blank."""


class WriteRules(Protocol):
    """What a batch may write."""

    @property
    def mode(self) -> WriteMode:
        """The mode of the batch."""
        ...

    def hold(self, write: IntendedWrite) -> str:
        """Why a row is held, one word of a closed set; empty if it is written now."""
        ...


@dataclass(frozen=True, slots=True)
class WithoutLimits:
    """Everything that a mode allows may be written."""

    mode: WriteMode = WriteMode.MIRROR

    def hold(self, write: IntendedWrite) -> str:
        """Never."""
        del write
        return ""


EVERYTHING: WriteRules = WithoutLimits()


def take_out_planned(
    planned: Sequence[PlannedOutcome], mode: WriteMode
) -> tuple[list[PlannedOutcome], list[Outcome]]:
    """What may be written, and the outcomes of those for whom nothing is, in REPORT_ONLY.

    An erasure is carried out in every mode: the person asked for it.
    """
    if mode is not WriteMode.REPORT_ONLY:
        return list(planned), []
    changed = {id(member) for row in rows(planned) for member in row.tag}
    erased = [member for member in planned if member.change.erase]
    outcomes = [
        _as_planned(member.outcome) if id(member) in changed else member.outcome
        for member in planned
        if not member.change.erase
    ]
    return erased, outcomes


def _as_planned(outcome: Outcome) -> Outcome:
    reason = _PLANNED_REASONS.get(outcome.status)
    if reason is None:
        return outcome
    return replace(outcome, status=OutcomeStatus.PLANNED, reason=reason, first=False)


@dataclass(frozen=True, slots=True)
class AllowedWrites:
    """What of a plan may be written: the decisions, their rows, and the outcomes of the others."""

    planned: list[PlannedOutcome]
    rows: list[WriteRow]
    held: list[Outcome]


def take_out_held(
    planned: Sequence[PlannedOutcome], rules: WriteRules, flag: str | None
) -> AllowedWrites:
    """What may be written, and the outcomes of the contacts whose row is held.

    All contacts of a held row are held with it. `flag` is the checkbox of deleted contacts.
    """
    held: dict[int, str] = {}
    allowed: list[WriteRow] = []
    for row in rows(planned):
        if reason := rules.hold(_intended(row, flag)):
            held |= {id(member): reason for member in row.tag}
        else:
            allowed.append(row)
    if not held:
        return AllowedWrites(list(planned), allowed, [])
    kept = [member for member in planned if id(member) not in held]
    outcomes = [
        replace(member.outcome, status=OutcomeStatus.HELD, reason=held[id(member)], first=False)
        for member in planned
        if id(member) in held
    ]
    return AllowedWrites(kept, allowed, outcomes)


def _intended(row: WriteRow, flag: str | None) -> IntendedWrite:
    members: list[PlannedOutcome] = row.tag
    owning = (OutcomeStatus.CREATED, OutcomeStatus.UPDATED)
    owner = next((one for one in members if one.outcome.status in owning), members[0])
    return IntendedWrite(owner.change.key, row.op == "upsert", len(values_replaced_by(row, flag)))
