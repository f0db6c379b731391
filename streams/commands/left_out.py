"""Who is left out by now of the contacts in contacts.changes: for the command selection.

They are the contacts of mailboxes that are selected no longer, and people who were synced and whom
the exclusions or the contact groups leave out since.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import click

from connectors.salesforce.field_paths import Json
from connectors.salesforce.kept_fields import Exclusion, exclusion_by
from connectors.salesforce.person import grant_of
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason
from streams.commands.breakers import read_control
from streams.commands.exclusion_changes import LeftOutContacts, left_out_contacts
from streams.commands.mailboxes import KnownGrants, mailbox_figures
from streams.commands.topic_records import topic_records
from streams.contact_groups import FIELD, NO_GROUPS, GroupRule, judge
from streams.control import ControlTable
from streams.control_selection import SelectionRecords
from streams.mailboxes import Choice, MailboxRule, Why
from streams.reader.bounded_keys import WHOLE, KeyPart
from streams.reader.comparison import LivingKeys, living_keys
from streams.settings import KafkaSettings
from streams.topics import topics

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


def read_left_out(kafka: KafkaSettings, wanted: WantedSelection) -> LeftOut:
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


def to_settle(
    kafka: KafkaSettings, wanted: WantedSelection, left_out: LeftOut
) -> Iterator[Mapping[str, str]]:
    """The contacts to publish: key to reason, in as many parts as memory needs."""
    for living in of_mailboxes(kafka, left_out.grants):
        yield dict.fromkeys(living.versions, NOT_SELECTED)
    if names_exclusions(wanted):
        yield from of_exclusions(kafka, wanted, left_out)


def of_mailboxes(kafka: KafkaSettings, grants: Sequence[str]) -> Iterator[LivingKeys]:
    """The living contacts of grants, in as many parts as memory needs."""
    if not grants:
        return

    def read(part: KeyPart) -> LivingKeys:
        return living_keys(topic_records(kafka, topics(kafka).changes.name), set(grants), part)

    first = read(WHOLE)
    yield first
    for part in first.part.others():
        yield read(part)


def of_exclusions(
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
