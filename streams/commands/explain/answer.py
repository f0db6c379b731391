"""What became of a contact, an address or a record, in plain data: the answer that is printed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.salesforce.domains import is_free_mail
from connectors.salesforce.emails import domain
from connectors.salesforce.exclusions import in_domains
from connectors.salesforce.kept_fields import exclusion_by
from connectors.salesforce.outcome import OutcomeStatus
from connectors.salesforce.person import grant_of
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason
from streams.commands.explain.question import Question, Subject
from streams.commands.explain.search import Found
from streams.commands.explain.timeline import Entry, timeline
from streams.contact_groups import NO_GROUPS
from streams.control import ControlTable
from streams.control_selection import SelectionRecords
from streams.dedupe.planner import GroupFilter
from streams.held import HELD_MEANING
from streams.own_domains import OwnDomains
from streams.runs import RunLog
from streams.topics import Topics

OWNS = frozenset({"created", "updated", "unchanged"})
"""Outcomes after which the contact's key is on the record."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run that read, or was to read, the contact's address book."""

    run_id: str
    state: str
    grant_state: str


@dataclass(frozen=True, slots=True)
class ContactAnswer:
    """What became of one contact.

    `sobject` and `record_id` are of the record that the last outcome names; `owner` is whether the
    contact's key is on it. `last` is the last outcome, empty without one.
    """

    key: str
    grant_status: str
    last: str
    sobject: str
    record_id: str
    owner: bool
    reason: str
    """Of the last outcome; empty where it has none."""
    entries: tuple[Entry, ...]
    left_out: int
    runs: tuple[RunEntry, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that is printed. `notes` are sentences for a person."""

    question: Question
    contacts: tuple[ContactAnswer, ...] = ()
    more_contacts: int = 0
    notes: tuple[str, ...] = field(default=())


def answer(
    question: Question,
    found: Found,
    runs: RunLog,
    policy: Policy,
    topics: Topics,
    control: ControlTable | None = None,
) -> Answer:
    """The answer to a question, given what the topics hold.

    `control` is what contactstream.control says of mailboxes and of derived own domains.
    """
    decided = control or ControlTable()
    groups = GroupFilter(
        lambda _: decided.selection.groups_in_force(NO_GROUPS), decided.selection.names_of_groups
    )
    contacts = tuple(
        _contact_answer(key, found, runs, policy, topics, groups) for key in found.contacts
    )
    notes = [
        *_waiting(contacts),
        *_not_selected(question, contacts, decided),
        *_left_out_by_groups(contacts, decided.selection),
        *_reasons(question, policy, decided.own_domains),
    ]
    seen = any(contact.entries for contact in contacts)
    if not seen:
        notes = [*_absence(question, found), *notes]
    return Answer(question, contacts if seen else (), found.more_contacts, tuple(notes))


def _contact_answer(
    key: str, found: Found, runs: RunLog, policy: Policy, topics: Topics, groups: GroupFilter
) -> ContactAnswer:
    records = found.contacts[key]
    entries = timeline(records, policy.mapping, topics, exclusion_by(policy), groups)
    outcomes = [entry for entry in entries if entry.what == "outcome"]
    last = outcomes[-1] if outcomes else None
    details = last.details if last else {}
    grant = grant_of(key)
    return ContactAnswer(
        key=key,
        grant_status=found.grants.status.get(grant, "unknown"),
        last=last.result if last else "",
        sobject=str(details.get("sobject", "")),
        record_id=str(details.get("id", "")),
        owner=last is not None and last.result in OWNS,
        reason=str(details.get("reason", "")),
        entries=tuple(entries),
        left_out=records.left_out,
        runs=tuple(_runs_of(grant, runs)),
    )


def _runs_of(grant: str, log: RunLog) -> Iterable[RunEntry]:
    for run_id in sorted(log.runs):
        progress = log.grants.get(run_id, {}).get(grant)
        if progress is not None:
            yield RunEntry(run_id, log.runs[run_id].state.value, progress.state.value)


def _absence(question: Question, found: Found) -> Sequence[str]:
    """Why the topics may hold nothing of it."""
    lines = ["No topic holds anything of it."]
    if question.subject is Subject.RECORD:
        lines.append(
            "No outcome that is still kept names the record: nothing was written to it, or the "
            "contact was erased."
        )
        return lines
    if found.oldest_event_ms is not None:
        lines.append(f"Events are kept since {moment(found.oldest_event_ms)}.")
    else:
        lines.append("contacts.events is empty: no notification and no page has come yet.")
    if question.subject is Subject.CONTACT:
        grant = grant_of(question.value)
        status = found.grants.status.get(grant)
        if status is None:
            lines.append(f"The grant {grant} is not known. See: contactstream grants list")
        elif status != "valid":
            since = moment(found.grants.since[grant] * 1000)
            lines.append(f"The grant {grant} is {status} since {since}: Nylas sends nothing of it.")
    return lines


def _waiting(contacts: Iterable[ContactAnswer]) -> Iterable[str]:
    """Why nothing was written for contacts of which a person has to decide, and the remedy."""
    for contact in contacts:
        if contact.last == OutcomeStatus.HELD.value:
            meaning = HELD_MEANING.get(contact.reason, contact.reason)
            yield (
                f"{contact.key} is held: {meaning}. Nothing was written; to have it written: "
                "contactstream held release"
            )
        if contact.last == OutcomeStatus.PLANNED.value:
            yield (
                f"{contact.key} is only planned ({contact.reason}): nothing is written in the mode "
                "report-only. See: contactstream mode"
            )


_REASONS: Mapping[SkipReason, str] = {
    SkipReason.EXCLUDED: "PEOPLE_EXCLUDED_* leave the address out.",
    SkipReason.ROLE_ADDRESS: "It is the address of a function, no person's (PEOPLE_ROLE_NAMES).",
    SkipReason.OWN_DOMAIN: "It is a colleague's address (PEOPLE_OWN_DOMAINS).",
}


def _not_selected(
    question: Question, contacts: Iterable[ContactAnswer], control: ControlTable
) -> Iterable[str]:
    """Which of the mailboxes are not synced, and why."""
    grants = {grant_of(contact.key) for contact in contacts}
    if question.subject is Subject.CONTACT:
        grants.add(grant_of(question.value))
    for grant in sorted(grants & control.selection.grants.keys()):
        noted = control.selection.grants[grant]
        if not noted.choice.selected:
            yield (
                f"The mailbox of {grant} is left out (not_selected) since "
                f"{moment(noted.since_ms)}, {noted.choice}: its changes go no further. "
                "See PEOPLE_MAILBOXES and contactstream grants list"
            )


def _left_out_by_groups(
    contacts: Iterable[ContactAnswer], selection: SelectionRecords
) -> Iterable[str]:
    """Which of the contacts are left out for their contact groups, and by which entries."""
    rule = selection.groups_in_force(NO_GROUPS)
    for contact in contacts:
        grant = grant_of(contact.key)
        known = ", ".join(sorted(filter(None, selection.names_of_groups(grant).values())))
        if contact.reason == SkipReason.NOT_IN_GROUP.value:
            yield (
                f"{contact.key} is in none of the contact groups that are synced (PEOPLE_GROUPS: "
                f"{', '.join(rule.included) or 'none now'}). Its address book has: {known or '-'}"
            )
        elif contact.reason == SkipReason.EXCLUDED_GROUP.value:
            yield (
                f"{contact.key} is in a contact group that is left out (PEOPLE_EXCLUDED_GROUPS: "
                f"{', '.join(rule.excluded) or 'none now'})"
            )


def _reasons(question: Question, policy: Policy, derived: OwnDomains | None) -> Iterable[str]:
    """Why the settings leave an address or a contact out."""
    if question.subject is Subject.RECORD:
        return
    if policy.suppression.holds([question.value]):
        yield "It is on the suppression list, so that it is never written."
    if question.subject is not Subject.ADDRESS:
        return
    _, reason = policy.exclusions.usable([question.value])
    own = sorted(derived.since_ms) if derived else []
    if reason is not None:
        yield _REASONS[reason]
    elif in_domains(domain(question.value), frozenset(own)):
        yield (
            "It is a colleague's address: a connected mailbox is at its domain "
            f"(own domains: {', '.join(own)}). PEOPLE_OWN_DOMAINS names others, or none."
        )
    elif is_free_mail(domain(question.value)) and not policy.creation.free_mail:
        yield (
            "Its domain is one of free mail: such a person is updated where Salesforce has a "
            "record, and not created (PEOPLE_CREATE_FREE_MAIL)."
        )


def moment(epoch_ms: int) -> str:
    """A time in epoch milliseconds as a person reads it."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
