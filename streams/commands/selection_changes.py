"""The command selection: what becomes of the records of people who are left out by now.

They are the contacts of mailboxes that are selected no longer, and people who were synced and whom
the exclusions leave out since. `preview` counts them. `apply` publishes them as deleted, so that
the sink releases, flags or keeps their records, as PEOPLE_ON_DELETE says.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import click

from connectors.nylas.contacts import PAGE_SIZE
from connectors.salesforce.field_paths import Json
from connectors.salesforce.kept_fields import Exclusion, exclusion_by
from connectors.salesforce.person import grant_of
from connectors.salesforce.policy import OnDelete, Policy
from connectors.salesforce.skip_reasons import SkipReason
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.exclusion_changes import LeftOutContacts, left_out_contacts
from streams.commands.mailboxes import KnownGrants, mailbox_figures
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.tables import print_table
from streams.commands.topic_records import topic_records
from streams.contact_groups import FIELD, NO_GROUPS, GroupRule, judge
from streams.control import ControlTable
from streams.control_selection import SelectionRecords
from streams.events import Origin
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.reader.bounded_keys import WHOLE, KeyPart
from streams.reader.comparison import LivingKeys, living_keys
from streams.reader.records import deletion_record
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

WHAT_FOLLOWS: Mapping[OnDelete, str] = {
    OnDelete.RELEASE: "the sink clears our key there, and the records stay",
    OnDelete.FLAG: "the checkbox PEOPLE_FLAG_FIELD is set on the records",
    OnDelete.KEEP: "nothing is written to the records",
}

GROUP_REASONS = (SkipReason.NOT_IN_GROUP, SkipReason.EXCLUDED_GROUP)

NOT_SELECTED = "not_selected"
"""The reason of the contacts of a mailbox that is selected no longer."""

EXCLUSIONS = (
    SkipReason.OWN_DOMAIN,
    SkipReason.EXCLUDED,
    SkipReason.ROLE_ADDRESS,
    SkipReason.SOURCE,
    *GROUP_REASONS,
)
"""The reasons for which exclusions and contact groups leave somebody out."""

REASONS = (NOT_SELECTED, *(reason.value for reason in EXCLUSIONS))


@dataclass(frozen=True, slots=True)
class WantedSelection:
    """Who is synced by the settings of the command, and which reasons it is about."""

    mailboxes: MailboxRule
    policy: Policy
    groups: GroupRule = NO_GROUPS
    reasons: tuple[str, ...] = REASONS


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the topics say of who is left out."""

    grants: Sequence[str]
    """Of the mailboxes that are selected no longer; none if the command is not about them."""
    addresses: Mapping[str, str | None]
    """By grant ID."""
    exclusion: Exclusion
    exclusions_in_force: bool
    """Whether reader and dedupe have the same exclusions as the command."""
    groups_in_force: bool
    """Whether they have the same contact groups."""
    groups_known: bool
    """Whether contacts.changes has the contact groups, because some have been in force."""


def checked_reasons(given: Sequence[str]) -> tuple[str, ...]:
    """The reasons that a user names; all without any. Raises click.UsageError."""
    for name in given:
        if name not in REASONS:
            close = get_close_matches(name.lower(), REASONS, 1)
            hint = f"did you mean {close[0]}?" if close else f"it is one of {', '.join(REASONS)}"
            raise click.UsageError(f"--reason: there is no reason {name!r}; {hint}")
    return tuple(given) or REASONS


def preview(kafka: KafkaSettings, wanted: WantedSelection) -> None:
    """Prints how many contacts are left out whose records are not settled. Blocks.

    Raises click.ClickException when Kafka cannot be read.
    """
    left_out = _left_out(kafka, wanted)
    found: Counter[str] = Counter()
    if NOT_SELECTED in wanted.reasons:
        found += _preview_mailboxes(kafka, left_out)
    if names_exclusions(wanted):
        found += _preview_exclusions(kafka, wanted, left_out)
    if found:
        on_delete = wanted.policy.on_delete
        click.echo(
            f"An apply would publish {found.total():,} contacts as deleted: "
            f"PEOPLE_ON_DELETE={on_delete.value}, so {WHAT_FOLLOWS[on_delete]}"
        )


def _preview_mailboxes(kafka: KafkaSettings, left_out: LeftOut) -> Counter[str]:
    counts: Counter[str] = Counter()
    for living in _of_mailboxes(kafka, left_out.grants):
        counts.update(map(grant_of, living.versions))
    if not counts:
        click.echo("no mailbox that is left out has contacts in contacts.changes")
        return counts
    addresses = left_out.addresses
    print_table(
        ("grant", "address", "contacts"),
        [(grant, addresses.get(grant) or "-", str(counts[grant])) for grant in sorted(counts)],
    )
    return Counter({NOT_SELECTED: counts.total()})


def _preview_exclusions(
    kafka: KafkaSettings, wanted: WantedSelection, left_out: LeftOut
) -> Counter[str]:
    counts: Counter[str] = Counter()
    if not (left_out.exclusions_in_force and left_out.groups_in_force):
        click.echo(
            "the exclusions or contact groups of this command are not in force yet: an apply needs "
            "them on reader, dedupe and sink"
        )
    if wanted.groups.reads_groups and not left_out.groups_known:
        click.echo(
            "no contact group was read so far, so that none is counted: put PEOPLE_GROUPS in "
            "force, then run contactstream reconcile --all"
        )
    for part in _of_exclusions(kafka, wanted, left_out):
        counts.update(part.values())
    if not counts:
        click.echo("the exclusions of the settings leave out no contact that was synced")
        return counts
    print_table(("left out", "contacts"), [(name, str(counts[name])) for name in sorted(counts)])
    click.echo(
        f"the exclusions of the settings leave out {counts.total():,} contacts that were synced: "
        "their records stay until an apply, and follow the address books no longer"
    )
    return counts


def apply(
    kafka: KafkaSettings,
    wanted: WantedSelection,
    why: str,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Publishes the contacts that are left out and whose records are not settled as deleted.

    Blocks. An interrupted command is repeated: what was published is deleted already. Raises
    click.UsageError without a reason, and click.ClickException, also where the exclusions of the
    command are not in force.
    """
    if not why.strip():
        raise click.UsageError("--why is missing: whoever reads the audit has to know")
    left_out = _left_out(kafka, wanted)
    if names_groups(wanted) and not left_out.groups_in_force:
        raise click.ClickException(
            "PEOPLE_GROUPS and PEOPLE_EXCLUDED_GROUPS of this command are not what is in force: "
            "give reader and dedupe the same settings and start them anew"
        )
    if names_exclusions(wanted) and not left_out.exclusions_in_force:
        raise click.ClickException(
            "the exclusions of this command are not what is in force (PEOPLE_EXCLUDED_*, "
            "PEOPLE_OWN_DOMAINS, PEOPLE_ROLE_NAMES, PEOPLE_PRESET, NYLAS_SOURCES): give reader, "
            "dedupe and sink the same settings and start them anew, or settle mailboxes alone with "
            f"--reason {NOT_SELECTED}"
        )
    names, now = topics(kafka), int(clock())
    action_id = f"{now}-selection-{secrets.token_hex(3)}"
    published: Counter[str] = Counter()
    by = actor_name(actor)

    def noted(state: AuditState) -> KafkaRecord:
        at_ms = int(clock() * 1000)
        selection = {"grants": sorted(left_out.grants), "reasons": list(wanted.reasons)}
        entry = AuditEntry(
            action_id,
            state,
            at_ms,
            by,
            "selection apply",
            why.strip(),
            selection,
            published.total(),
        )
        return audit_record(names.audit.name, entry)

    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([noted(AuditState.BEGUN)])
            for part in _to_settle(kafka, wanted, left_out):
                for page in _pages(sorted(part)):
                    publisher.publish([_deletion(names, key, action_id, now) for key in page])
                    published.update(part[key] for key in page)
            publisher.publish([noted(AuditState.ENDED)])
    except NotAcknowledged as error:
        raise click.ClickException(
            f"{error}; {published.total():,} contacts were published: repeat the command"
        ) from error
    for reason in sorted(published):
        click.echo(f"{reason}: {published[reason]:,}")
    click.echo(
        f"{published.total():,} contacts published as deleted; "
        f"{WHAT_FOLLOWS[wanted.policy.on_delete]}"
    )


def names_exclusions(wanted: WantedSelection) -> bool:
    """Whether the command is about people whom the exclusions leave out."""
    return any(reason != NOT_SELECTED for reason in wanted.reasons)


def names_groups(wanted: WantedSelection) -> bool:
    """Whether the command is about people whom the contact groups leave out."""
    return any(reason in wanted.reasons for reason in GROUP_REASONS)


def left_out_grants(choices: Mapping[str, Choice]) -> list[str]:
    """The grants that nothing selects.

    One whose address is not known, or that a permission set may select whose users are not known,
    is none of them: nothing is decided about it yet.
    """
    return [grant for grant, choice in choices.items() if choice.why is Why.NO_ENTRY]


def _left_out(kafka: KafkaSettings, wanted: WantedSelection) -> LeftOut:
    """Who is left out, by the rule in force and by the exclusions of the command.

    Raises click.ClickException where this process has another rule: the reader has yet to put it
    in force, and dedupe would go on with the old one.
    """
    control = read_control(kafka)
    selection = control.selection
    if selection.in_force(wanted.mailboxes) != wanted.mailboxes:
        raise click.ClickException(
            "PEOPLE_MAILBOXES of this command is not what is in force: give the reader the same "
            "setting and start it anew"
        )
    known = KnownGrants.of(topic_records(kafka, topics(kafka).grants.name))
    living = known.living()
    choices = mailbox_figures(selection, wanted.mailboxes, living, 0).choices
    policy = wanted.policy
    return LeftOut(
        left_out_grants(choices) if NOT_SELECTED in wanted.reasons else (),
        living,
        exclusion_by(
            policy, _derived_domains(control, known), _left_out_by_groups(selection, wanted.groups)
        ),
        selection.exclusions == policy.exclusions.digest(policy.sources),
        selection.groups_in_force(NO_GROUPS) == wanted.groups,
        selection.groups_in_force(NO_GROUPS).reads_groups,
    )


def _derived_domains(control: ControlTable, known: KnownGrants) -> Callable[[str], frozenset[str]]:
    """Which own domains count for a contact key because the reader derived them."""
    derived = control.own_domains
    if derived is None:
        return lambda _: frozenset()
    return lambda key: derived.with_grant(known.addresses.address(grant_of(key)) or "")


def _left_out_by_groups(selection: SelectionRecords, rule: GroupRule) -> Exclusion:
    """Whom the rule leaves out of those whose contact groups are in contacts.changes."""

    def exclusion(key: str, contact: Json) -> SkipReason | None:
        if FIELD not in contact:
            return None
        return judge(rule, contact, selection.names_of_groups(grant_of(key)), certain=True).reason

    return exclusion


def _to_settle(
    kafka: KafkaSettings, wanted: WantedSelection, left_out: LeftOut
) -> Iterator[Mapping[str, str]]:
    """The contacts to publish: key to reason, in as many parts as memory needs."""
    for living in _of_mailboxes(kafka, left_out.grants):
        yield dict.fromkeys(living.versions, NOT_SELECTED)
    if names_exclusions(wanted):
        yield from _of_exclusions(kafka, wanted, left_out)


def _of_mailboxes(kafka: KafkaSettings, grants: Sequence[str]) -> Iterator[LivingKeys]:
    """The living contacts of grants, in as many parts as memory needs."""
    if not grants:
        return

    def read(part: KeyPart) -> LivingKeys:
        return living_keys(topic_records(kafka, topics(kafka).changes.name), set(grants), part)

    first = read(WHOLE)
    yield first
    for part in first.part.others():
        yield read(part)


def _of_exclusions(
    kafka: KafkaSettings, wanted: WantedSelection, left_out: LeftOut
) -> Iterator[Mapping[str, str]]:
    """The contacts that exclusions leave out, of the wanted reasons, in parts: key to reason."""

    def read(part: KeyPart) -> LeftOutContacts:
        changes = topic_records(kafka, topics(kafka).changes.name)
        return left_out_contacts(changes, left_out.exclusion, set(left_out.grants), part)

    def chosen(found: LeftOutContacts) -> Mapping[str, str]:
        return {
            key: reason.value
            for key, reason in found.reasons.items()
            if reason.value in wanted.reasons
        }

    first = read(WHOLE)
    yield chosen(first)
    for part in first.part.others():
        yield chosen(read(part))


def _pages(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE_SIZE] for start in range(0, len(keys), PAGE_SIZE)]


def _deletion(names: Topics, key: str, action_id: str, now: int) -> KafkaRecord:
    grant, _, contact_id = key.partition("/")
    event_id = f"{action_id}/{contact_id}"
    return deletion_record(names, grant, contact_id, Origin.RECONCILE, event_id, now)
