"""The check of `contactstream doctor` which mailboxes are selected."""

import click

from connectors.salesforce.checkup.findings import CheckupFinding, ok, warn
from streams.commands.doctor.deployment import not_examined
from streams.commands.mailboxes import MailboxFigures, read_mailboxes
from streams.mailboxes import MailboxRule
from streams.settings import KafkaSettings

CHECK = "mailboxes"


def examine_mailboxes(kafka: KafkaSettings, setting: MailboxRule) -> list[CheckupFinding]:
    """Findings about PEOPLE_MAILBOXES and what is in force. Blocks."""
    try:
        return mailbox_findings(read_mailboxes(kafka, setting))
    except click.ClickException as error:
        return [not_examined(CHECK, f"grant our user Read: {error.format_message()}")]


def mailbox_findings(figures: MailboxFigures) -> list[CheckupFinding]:
    """A finding with the number of selected mailboxes, and one for each problem."""
    if not figures.rule.entries:
        shown = "all are selected, because PEOPLE_MAILBOXES is empty"
    else:
        shown = f"{figures.selected} of {len(figures.choices)} connected ones are selected"
    return [
        ok(CHECK, shown),
        *(warn(CHECK, problem.what, problem.remedy) for problem in figures.problems),
    ]
