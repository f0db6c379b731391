"""Which mailboxes are selected, and what is wrong with the selection, for commands: plain data."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from streams.commands.breakers import read_control
from streams.commands.contact_groups import GroupFigures, group_figures
from streams.commands.topic_records import topic_records
from streams.contact_groups import GroupRule
from streams.control import ControlTable
from streams.control_selection import SelectionRecords
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord
from streams.mailboxes import PERMISSION_SET, Choice, MailboxRule
from streams.own_domains import OwnDomains
from streams.reader.grant_events import GrantTable, parse_grant_event
from streams.settings import KafkaSettings
from streams.topics import topics

# The sink asks once an hour. A list that is older has missed a day of changes.
OLD_LIST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MailboxFigures:
    """The connected mailboxes by the rule in force."""

    rule: MailboxRule
    choices: Mapping[str, Choice]
    """By grant ID; without deleted grants."""
    problems: tuple[Problem, ...]
    groups: GroupFigures | None = None
    """The contact groups; None if that was not asked for."""
    own_domains: OwnDomains | None = None
    """The own domains that the reader derived; None while it derives none."""

    @property
    def selected(self) -> int:
        """How many are selected."""
        return sum(choice.selected for choice in self.choices.values())


@dataclass(slots=True)
class KnownGrants:
    """What the records of grants.events say: which grants there are, and whose they are."""

    table: GrantTable
    addresses: GrantAddresses

    @classmethod
    def of(cls, records: Iterable[KafkaRecord]) -> "KnownGrants":
        """From the records of the topic, in their order."""
        found = cls(GrantTable(), GrantAddresses())
        for record in records:
            found.addresses.apply(record)
            if event := parse_grant_event(record):
                found.table.apply(event)
        return found

    def living(self) -> dict[str, str | None]:
        """The address of each grant that was not deleted; None where it is not known."""
        gone = self.table.deleted()
        grants = {*self.table.status, *self.addresses.by_grant} - gone
        return {grant: self.addresses.address(grant) for grant in sorted(grants)}

    def providers(self) -> dict[str, str]:
        """The provider of each grant that was not deleted; empty where it is not known."""
        known = self.addresses.by_grant
        return {grant: known[grant].provider if grant in known else "" for grant in self.living()}


def read_mailboxes(
    kafka: KafkaSettings,
    setting: MailboxRule,
    groups: GroupRule | None = None,
    exclusions: str = "",
    *,
    clock: Callable[[], float] = time.time,
) -> MailboxFigures:
    """The mailboxes now. Blocks. Raises click.ClickException when Kafka cannot be read.

    `groups` is the rule of contact groups of this process, and `exclusions` the digest of its
    exclusions; None and empty if it has not loaded any.
    """
    known = KnownGrants.of(topic_records(kafka, topics(kafka).grants.name))
    control = read_control(kafka)
    figures = mailbox_figures(control.selection, setting, known.living(), clock())
    found = group_figures(control.selection, known.providers(), groups)
    problems = (
        *figures.problems,
        *(Problem(what, remedy) for what, remedy in found.problems),
        *exclusion_problems(control.selection, exclusions),
        *deletion_problems(control),
    )
    return replace(figures, problems=problems, groups=found, own_domains=control.own_domains)


def deletion_problems(control: ControlTable) -> Iterable[Problem]:
    """Whether the contacts of deleted grants wait for a person."""
    if held := len(control.grant_deletions.held):
        yield Problem(
            f"{held} grants were deleted, a larger share of a day than READER_MAX_DELETE_SHARE; "
            "their contacts wait",
            "contactstream grants confirm, or correct NYLAS_API_KEY",
        )


def exclusion_problems(selection: SelectionRecords, digest: str) -> Iterable[Problem]:
    """Whether the exclusions of a process differ from those in force; `digest` may be empty."""
    if digest and selection.exclusions and digest != selection.exclusions:
        yield Problem(
            "the exclusions of this process are not what is in force (PEOPLE_EXCLUDED_*, "
            "PEOPLE_OWN_DOMAINS, PEOPLE_ROLE_NAMES, PEOPLE_PRESET, NYLAS_SOURCES)",
            "give reader, dedupe, sink and commands the same settings, and start the reader anew",
        )


def mailbox_figures(
    selection: SelectionRecords,
    setting: MailboxRule,
    living: Mapping[str, str | None],
    now: float,
) -> MailboxFigures:
    """The choice for each grant, by its address, and what a person has to look at.

    `now` is in epoch seconds.
    """
    rule = selection.in_force(setting)
    choices = {grant: selection.choose(address, setting) for grant, address in living.items()}
    return MailboxFigures(rule, choices, tuple(_problems(selection, setting, choices, living, now)))


def _problems(
    selection: SelectionRecords,
    setting: MailboxRule,
    choices: Mapping[str, Choice],
    living: Mapping[str, str | None],
    now: float,
) -> Iterable[Problem]:
    rule = selection.in_force(setting)
    if rule != setting:
        yield Problem(
            "PEOPLE_MAILBOXES of this process is not what is in force",
            "start the reader anew with it: contactstream reader puts it in force",
        )
    for name in rule.permission_sets:
        members = selection.members.get(name)
        if members is None:
            yield Problem(
                f"who has {PERMISSION_SET}{name} is not known yet, so it selects no mailbox",
                "check the API name, and that the sink runs with PEOPLE_MAILBOXES",
            )
        elif now - members.asked_ms / 1000 > OLD_LIST_SECONDS:
            yield Problem(
                f"who has {PERMISSION_SET}{name} was asked more than a day ago",
                "check that the sink runs, and its log",
            )
    for address in rule.without_grant(address for address in living.values() if address):
        yield Problem(
            f"PEOPLE_MAILBOXES names {address}, which no connected mailbox has",
            "connect it, or correct the entry; see contactstream grants list",
        )
    if rule.entries and choices and not any(choice.selected for choice in choices.values()):
        yield Problem(
            f"PEOPLE_MAILBOXES selects none of {len(choices)} connected mailboxes",
            "see contactstream grants list",
        )
