"""Commands for a changed selection of mailboxes, people or contact groups."""

from typing import TYPE_CHECKING

import click

from streams import settings
from streams.cli.loading import group_rule, load, report_unusable_settings
from streams.cli.options import ACTOR, DRY_RUN, WHY
from streams.cli.root import main
from streams.mailboxes import MailboxRule

if TYPE_CHECKING:
    from streams.commands.left_out import WantedSelection


@main.group()
def selection() -> None:
    """Shows and settles what becomes of the records of people who are left out by now."""


_REASON = click.option(
    "--reason",
    "reasons",
    multiple=True,
    metavar="REASON",
    help="Only contacts that are left out for this reason, such as not_selected or excluded; may "
    "be repeated.",
)


def _wanted_selection(reasons: tuple[str, ...]) -> "WantedSelection":
    from streams.commands.left_out import WantedSelection
    from streams.commands.selection_changes import checked_reasons
    from streams.org import policy

    people = load(settings.PeopleSettings)
    sources = load(settings.NylasSettings).sources
    with report_unusable_settings():
        allowed = policy(load(settings.SalesforceSettings), people, sources)
    return WantedSelection(
        MailboxRule(people.mailboxes), allowed, group_rule(people), checked_reasons(reasons)
    )


@selection.command(name="preview")
@_REASON
def selection_preview(*, reasons: tuple[str, ...]) -> None:
    """Counts the contacts that the settings leave out by now, and writes nothing.

    It counts the contacts of mailboxes that PEOPLE_MAILBOXES leaves out, and then the people who
    were synced and whom the exclusions leave out. The exclusions are those of this command, so that
    a changed one can be looked at before the processes get it.
    """
    from streams.commands.selection_changes import preview

    preview(load(settings.KafkaSettings), _wanted_selection(reasons))


@selection.command(name="apply")
@_REASON
@WHY
@ACTOR
@DRY_RUN
def selection_apply(
    *, reasons: tuple[str, ...], why: str, actor: str | None, dry_run: bool
) -> None:
    """Publishes these contacts as deleted, so that PEOPLE_ON_DELETE settles their records.

    `contactstream selection preview` shows the same as --dry-run. An interrupted command may be
    repeated.
    """
    from streams.commands.selection_changes import apply, preview

    wanted, kafka = _wanted_selection(reasons), load(settings.KafkaSettings)
    if dry_run:
        preview(kafka, wanted)
    else:
        apply(kafka, wanted, why, actor)
