"""Plans contacts whose creation a duplicate rule blocked: each may be the record the rule named."""

from collections.abc import Iterable, Sequence

from connectors.salesforce.api.errors import Action, DuplicateMatch
from connectors.salesforce.candidates import CandidateIndex
from connectors.salesforce.matching import Match, accepts, covers
from connectors.salesforce.outcome import next_batch
from connectors.salesforce.outcome_mapping import WriteReport, report_member, report_rows
from connectors.salesforce.planner import PlannedOutcome, WritePlanner, covered
from connectors.salesforce.writer import WrittenRow


def split_blocked(
    written: Iterable[WrittenRow],
) -> tuple[list[WrittenRow], list[WrittenRow]]:
    """The creations for which a duplicate rule named exactly one record, and all other rows."""
    blocked: list[WrittenRow] = []
    others: list[WrittenRow] = []
    for row in written:
        adoptable = row.row.creates and row.verdict.action is Action.ADOPT_DUPLICATE
        (blocked if adoptable else others).append(row)
    return blocked, others


def named_record(blocked: WrittenRow) -> DuplicateMatch:
    """The record that the duplicate rule named."""
    return blocked.verdict.duplicates[0]


def plan_adoptions(
    blocked: Sequence[WrittenRow], candidates: CandidateIndex, planner: WritePlanner
) -> tuple[list[PlannedOutcome], WriteReport]:
    """The contacts that take a named record over, and the report about those that cannot.

    A contact takes the record over if it is the contact by name and address. It is covered if the
    record is another person's, and has the contact's primary address. `candidates` holds the named
    records and is the index of `planner`.
    """
    adopted: list[PlannedOutcome] = []
    report = WriteReport()
    for row in blocked:
        record = candidates.records.get(named_record(row).record_id[:15])
        if record is None or not set(record.addresses) & row.row.people:
            report.add(report_rows([row]))
            continue
        members: list[PlannedOutcome] = row.row.tag
        for member in members:
            if member.person is None:  # covered by a record that is not created after all
                report.add(WriteReport([next_batch(member.change)]))
            elif accepts(record, member.person):
                match = Match(record, "duplicate_rule")
                adopted.append(planner.join(member.change, member.person, match))
            elif covers(record, member.person):
                adopted.append(covered(member.change, [record]))
            else:
                report.add(report_member(row, member))
    return adopted, report
