"""Turns the results of written rows into one outcome for each contact. Plain functions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from connectors.salesforce.api.errors import Action
from connectors.salesforce.org_fields import KEY_FIELD, MARKER_FIELD, VERSION_FIELD
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus, next_batch
from connectors.salesforce.planner import PlannedOutcome, is_suppressed
from connectors.salesforce.provenance_fields import says_nothing
from connectors.salesforce.replaced_values import owner_of, values_replaced_by
from connectors.salesforce.rows import WriteRow
from connectors.salesforce.skip_reasons import SkipReason
from connectors.salesforce.suppression import SuppressionList
from connectors.salesforce.writer import WrittenRow

# Codes of a row that is refused because a record that it refers to is gone.
_DELETED_REFERENCE = {"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"}
# Codes of a row that the org refuses for the values of the fields that it names.
_REFUSED_VALUE = {
    "FIELD_INTEGRITY_EXCEPTION",
    "INVALID_EMAIL_ADDRESS",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    "INVALID_TYPE_ON_FIELD_IN_RECORD",
    "NUMBER_OUTSIDE_VALID_RANGE",
    "STRING_TOO_LONG",
    "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET",
}


@dataclass(slots=True)
class WriteReport:
    """What one step of a write came to.

    `split` holds the contacts of each row that failed and stood for several: one of them may have
    spoilt the row of the others, so they have no outcome yet, and each has to be tried alone.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    split: list[tuple[ContactVersion, ...]] = field(default_factory=list)

    def add(self, other: "WriteReport") -> None:
        """Appends another report."""
        self.outcomes += other.outcomes
        self.split += other.split


def report_rows(written: Iterable[WrittenRow], flag: str | None = None) -> WriteReport:
    """The outcomes of all contacts that these rows stand for.

    `flag` is the checkbox of deleted contacts, which counts as no value of a person.
    """
    report = WriteReport()
    for row in written:
        _report_row(report, row, row.row.tag, flag)
    return report


def report_member(written: WrittenRow, member: PlannedOutcome) -> WriteReport:
    """The outcome of one of the contacts that a row stands for."""
    report = WriteReport()
    _report_row(report, written, [member])
    return report


def _report_row(
    report: WriteReport,
    written: WrittenRow,
    members: Sequence[PlannedOutcome],
    flag: str | None = None,
) -> None:
    action = written.verdict.action
    if action is Action.DONE:
        outcomes = [_done(member, written) for member in members]
        if replaced := tuple(values_replaced_by(written.row, flag)):
            place = members.index(owner_of(written.row))
            outcomes[place] = replace(outcomes[place], replaced=replaced)
        report.outcomes += outcomes
        return
    status = _failed_status(action)
    if status is not OutcomeStatus.RETRY and len(members) > 1:
        report.split.append(tuple(member.change for member in members))
    else:
        report.outcomes += [_failed(member, written, status) for member in members]


def _failed(member: PlannedOutcome, written: WrittenRow, status: OutcomeStatus) -> Outcome:
    """The outcome of a contact whose row was refused.

    A Person Account is no dead letter: whoever may edit it can neither mend nor redrive the row.
    """
    reason = written.verdict.reason
    is_person_account = member.record is not None and member.record.is_person_account
    if status is OutcomeStatus.FAILED and is_person_account:
        status, reason = OutcomeStatus.SKIPPED, SkipReason.PERSON_ACCOUNT.value
    return replace(
        member.outcome, status=status, first=False, reason=reason, errors=written.result.errors
    )


def _failed_status(action: Action) -> OutcomeStatus:
    match action:
        case Action.RETRY_ROW | Action.FOLLOW_CONVERTED:
            return OutcomeStatus.RETRY
        case Action.STALE:
            return OutcomeStatus.STALE
        case _:
            return OutcomeStatus.FAILED


def _done(member: PlannedOutcome, written: WrittenRow) -> Outcome:
    outcome = member.outcome
    if outcome.status is OutcomeStatus.CREATED and written.result.created is not False:
        return outcome.as_created(written.result.id, written.row.owner_rule)
    if outcome.record_id != written.result.id:
        outcome = replace(outcome, record_id=written.result.id)
    if outcome.status is OutcomeStatus.COVERED and not outcome.candidates and outcome.record_id:
        return replace(outcome, candidates=(outcome.record_id,))
    if outcome.status is OutcomeStatus.CREATED:
        # the key was there already, written by an earlier call whose answer was lost
        return replace(outcome, status=OutcomeStatus.UPDATED, matched="key", first=False)
    return outcome


def single_rounds(
    split: Sequence[Sequence[ContactVersion]],
) -> list[list[ContactVersion]]:
    """Rounds in which contacts whose common row failed are tried: one of each row in every round.

    A round is always smaller than the batch in which the rows failed, so rounds of rounds end.
    """
    return [
        [members[number] for members in split if number < len(members)]
        for number in range(max(map(len, split), default=0))
    ]


def unsent_outcomes(
    planned: Iterable[PlannedOutcome],
    rows: Sequence[WriteRow],
    written_since_plan: Callable[[str], bool],
) -> list[Outcome]:
    """The outcomes of contacts for whom nothing had to be written.

    `rows` are all rows of the plan. If another batch wrote a contact's record meanwhile, the plan
    is no longer true: its owner may have released it, and the contact that only filled it would
    take it over. Such a contact belongs in the next batch.
    """
    in_rows = {id(member) for row in rows for member in row.tag}
    own_records = {row.fields.get("Id") for row in rows}

    def outdated(member: PlannedOutcome) -> bool:
        record_id = member.record.id if member.record else None
        return (
            record_id is not None and record_id not in own_records and written_since_plan(record_id)
        )

    return [
        next_batch(member.change) if outdated(member) else member.outcome
        for member in planned
        if id(member) not in in_rows
    ]


def take_out_suppressed(
    planned: Sequence[PlannedOutcome], suppression: SuppressionList
) -> tuple[list[PlannedOutcome], list[Outcome]]:
    """The contacts that may be written, and the outcomes of the others.

    A person may have been erased since the plan was made. Others of the same record belong in the
    next batch: the planned row holds what the erased person brought, another plan will not.
    """
    if not suppression.hashes:
        return list(planned), []
    affected = {
        id(member.record)
        for member in planned
        if member.record and is_suppressed(member.change, suppression)
    }
    outcomes, kept = [], []
    for member in planned:
        if member.record is None or id(member.record) not in affected:
            kept.append(member)
        elif is_suppressed(member.change, suppression):
            reason = SkipReason.SUPPRESSED.value
            outcomes.append(Outcome(member.change.key, OutcomeStatus.SKIPPED, reason=reason))
        else:
            outcomes.append(next_batch(member.change))
    return kept, outcomes


def without_refused_values(written: WrittenRow) -> WriteRow | None:
    """A row that was refused only for values of some fields, without these fields.

    None if the row was not refused for that, if a field that it needs is among them, or if nothing
    would be left to write. Better a contact without a country that the org does not list, or a
    value that the record type does not have, than none.
    """
    row, errors = written.row, written.result.errors
    if written.verdict.action is not Action.DEAD_LETTER or any(
        error.code not in _REFUSED_VALUE for error in errors
    ):
        return None
    # of a State and Country picklist the code field is named, whichever of the two was written
    named = {
        name
        for error in errors
        for field_name in error.fields
        for name in (field_name, field_name.removesuffix("Code"))
    }
    refused = named & row.fields.keys()
    needed = {"Id"} if row.op == "update" else {"LastName", "Company"}
    if not refused or refused & {*needed, KEY_FIELD, VERSION_FIELD, MARKER_FIELD}:
        return None
    shorter = row.without(refused)
    return None if says_nothing(set(shorter.fields)) else shorter


def deleted_account(written: WrittenRow) -> str | None:
    """The ID of the Account that a row was refused for because it was deleted or purged."""
    account_id = written.row.fields.get("AccountId")
    refused = any(
        error.code in _DELETED_REFERENCE and (not error.fields or "AccountId" in error.fields)
        for error in written.result.errors
    )
    return account_id if refused and isinstance(account_id, str) else None


def one_for_each_contact(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome for each contact key, the gravest: RETRY before FAILED before all others.

    A deletion may have two rows, and is done when both are.
    """
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = found.setdefault(outcome.key, outcome)
        if _gravity(outcome) > _gravity(known):
            found[outcome.key] = outcome
    return list(found.values())


def _gravity(outcome: Outcome) -> int:
    return {OutcomeStatus.RETRY: 2, OutcomeStatus.FAILED: 1}.get(outcome.status, 0)
