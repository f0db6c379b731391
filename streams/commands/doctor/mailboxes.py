"""The check of `contactstream doctor` which mailboxes are selected."""

from datetime import UTC, datetime

import click

from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn
from streams.commands.contact_groups import GroupFigures
from streams.commands.doctor.deployment import not_examined
from streams.commands.mailboxes import MailboxFigures, read_mailboxes
from streams.contact_groups import GroupRule
from streams.mailboxes import MailboxRule
from streams.own_domains import OwnDomains
from streams.settings import KafkaSettings

CHECK = "mailboxes"
OWN_DOMAINS = "own domains"
GROUPS = "contact groups"


def examine_mailboxes(
    kafka: KafkaSettings,
    setting: MailboxRule,
    groups: GroupRule | None = None,
    exclusions: str = "",
) -> list[CheckupFinding]:
    """Findings about PEOPLE_MAILBOXES, PEOPLE_GROUPS, exclusions and what is in force. Blocks.

    `exclusions` is the digest of those of this process.
    """
    try:
        return mailbox_findings(read_mailboxes(kafka, setting, groups, exclusions))
    except click.ClickException as error:
        return [not_examined(CHECK, f"grant our user Read: {error.format_message()}")]


def mailbox_findings(figures: MailboxFigures) -> list[CheckupFinding]:
    """A finding with the number of selected mailboxes, and one for each problem.

    Before the problems: which own domains were derived, and which contact groups are selected, if
    any are.
    """
    if not figures.rule.entries:
        shown = "all are selected, because PEOPLE_MAILBOXES is empty"
    else:
        shown = f"{figures.selected} of {len(figures.choices)} connected ones are selected"
    return [
        ok(CHECK, shown),
        *([] if figures.own_domains is None else [_own_domains(figures.own_domains)]),
        *([] if figures.groups is None else _groups(figures.groups)),
        *(warn(CHECK, problem.what, problem.remedy) for problem in figures.problems),
    ]


def _groups(groups: GroupFigures) -> list[CheckupFinding]:
    return [ok(GROUPS, str(groups))] if groups.rule.reads_groups else []


def _own_domains(own: OwnDomains) -> CheckupFinding:
    if not own.since_ms:
        return ok(OWN_DOMAINS, "none yet: no connected mailbox has an address at a company")
    named = ", ".join(
        f"{name} (since {datetime.fromtimestamp(since / 1000, UTC):%Y-%m-%d})"
        for name, since in sorted(own.since_ms.items())
    )
    return ok(
        OWN_DOMAINS,
        f"derived from the connected mailboxes: {named}; people there are colleagues and are not "
        "synced. PEOPLE_OWN_DOMAINS names others, or none",
    )
