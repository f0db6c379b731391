"""Commands that repeat what was done, or take it back: replays, dead letters, undo."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams import settings
from streams.cli.loading import load, report_unusable_settings
from streams.cli.options import ACTOR, EXECUTE, EXPECT, JSON, WAIT, WHY, YES
from streams.cli.root import main
from streams.commands.selection_options import selection_options, selection_options_with_offsets

if TYPE_CHECKING:
    from streams.selection import Selection


@main.command()
@click.argument("source", type=click.Choice(["events", "changes"]))
@selection_options_with_offsets
@click.option(
    "--restore",
    metavar="FIELDS",
    multiple=True,
    help="Write these mapped fields over anybody's value: Title,Phone. Only with `changes`.",
)
@click.option(
    "--to-prefix",
    metavar="PREFIX",
    help="Publish to the deployment with this KAFKA_TOPIC_PREFIX, in the same cluster.",
)
@click.option(
    "--sandbox/--production",
    "is_sandbox",
    default=None,
    help="What the org of --to-prefix is; one of them must be given.",
)
@click.option("--execute", is_flag=True, help="Publish it; otherwise it is only counted.")
@click.option("--yes", "agreed", is_flag=True, help="Replay everything, where nothing limits it.")
@click.option(
    "--expect",
    "expected",
    type=click.IntRange(min=0),
    help="The records of the preview; more than --growth above it are refused.",
)
@click.option(
    "--growth",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    help="Share by which the selection may have grown since the preview.",
)
@click.option("--rate", type=click.FloatRange(min=0.1), help="Records a second at most.")
@ACTOR
@WHY
@WAIT
@JSON
def replay(
    *,
    source: str,
    selection: "Selection",
    restore: tuple[str, ...],
    to_prefix: str | None,
    is_sandbox: bool | None,
    execute: bool,
    agreed: bool,
    expected: int | None,
    growth: float,
    rate: float | None,
    actor: str | None,
    why: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Publishes records of a topic to contacts.events again.

    SOURCE is `events`, what Nylas said in the last two weeks, or `changes`, the newest state of
    every contact. Without --execute it only counts. Dedupe drops what is older than the newest
    that it knows of a contact, so that a replay never makes Salesforce older.

    --restore claims fields after a bad import, also where somebody else's value stands; without
    --execute it counts these values, and asks the org for that once for each 1,000 contacts.

    The reader carries it out: see `contactstream runs`. Live changes go first.
    """
    from streams.commands.replay.command import ReplayOptions, run
    from streams.commands.replay.restore import parse_restore
    from streams.org import mapping, policy
    from streams.runs import ReplaySource
    from streams.selection import UnusableSelection

    org = load(settings.SalesforceSettings)
    with report_unusable_settings():
        rules = mapping(org)
    if restore and (source != ReplaySource.CHANGES or to_prefix is not None):
        raise click.UsageError(
            "--restore goes with `replay changes`, which holds the newest state of each contact, "
            "and in the deployment whose org is restored: without --to-prefix"
        )
    if is_sandbox is not None and to_prefix is None:
        raise click.UsageError("--sandbox and --production say what the org of --to-prefix is")
    try:
        options = ReplayOptions(
            source=ReplaySource(source),
            restore=parse_restore(restore, rules),
            to_prefix=to_prefix,
            is_sandbox=is_sandbox,
            rate=rate,
            execute=execute,
            agreed=agreed,
            expected=expected,
            growth=growth,
            wait=wait,
            as_json=as_json,
            actor=actor,
            why=why,
        )
    except UnusableSelection as error:
        raise click.UsageError(str(error)) from error
    kafka, people = load(settings.KafkaSettings), load(settings.PeopleSettings)
    sources = load(settings.NylasSettings).sources
    with report_unusable_settings():
        sys.exit(run(kafka, org, rules, lambda: policy(org, people, sources), selection, options))


@main.group(name="dead-letters", invoke_without_command=True)
@selection_options
@JSON
@click.pass_context
def dead_letters(context: click.Context, *, selection: "Selection", as_json: bool) -> None:
    """Shows what could not be processed, and redrives or discards it.

    Without a subcommand it groups the open dead letters by their reason, with an example and what
    to do. No name and no address is printed.
    """
    if context.invoked_subcommand is None:
        from streams.commands.dead_letters.command import Choice, summary

        summary(load(settings.KafkaSettings), Choice(selection, as_json))
    elif not selection.takes_everything or as_json:
        subcommand = context.invoked_subcommand
        raise click.UsageError(f"give the options after `{subcommand}`, not before it")


@dead_letters.command(name="list")
@selection_options
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
def dead_letters_list(*, selection: "Selection", as_json: bool, as_csv: bool) -> None:
    """Lists open dead letters one by one, with their IDs."""
    from streams.commands.dead_letters.command import Choice, list_letters

    list_letters(load(settings.KafkaSettings), Choice(selection, as_json, as_csv))


@dead_letters.command(name="show")
@click.argument("letter_id", metavar="ID")
@click.option("--reveal", is_flag=True, help="Print the contact and the error; the audit notes it.")
@ACTOR
@JSON
def dead_letters_show(*, letter_id: str, reveal: bool, actor: str | None, as_json: bool) -> None:
    """Shows everything about one dead letter."""
    from streams.commands.dead_letters.command import show

    show(
        load(settings.KafkaSettings),
        letter_id,
        reveal=reveal,
        given_actor=actor,
        as_json=as_json,
    )


@dead_letters.command(name="redrive")
@selection_options
@EXECUTE
@YES
@EXPECT
@ACTOR
@WHY
@JSON
def dead_letters_redrive(
    *,
    selection: "Selection",
    execute: bool,
    agreed: bool,
    expected: int | None,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Publishes dead letters to contacts.events again, and closes them.

    Dedupe decides about each as about any other event, so that nothing becomes older. A letter
    whose contact has a newer outcome is left open: see `discard --superseded`.

    The exit code is 1 when a letter could not be redriven; it stays open.
    """
    from streams.commands.dead_letters.command import Choice, Order, redrive

    bridge = load(settings.BridgeSettings)
    order = Order(execute, agreed, expected, actor, why)
    kafka = load(settings.KafkaSettings)
    sys.exit(redrive(kafka, Choice(selection, as_json), order, bridge.body_limit))


@dead_letters.command(name="discard")
@selection_options
@click.option("--superseded", is_flag=True, help="Only those whose contact has a newer outcome.")
@EXECUTE
@YES
@EXPECT
@ACTOR
@WHY
@JSON
def dead_letters_discard(
    *,
    selection: "Selection",
    superseded: bool,
    execute: bool,
    agreed: bool,
    expected: int | None,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Closes dead letters for good: also those of a person who is to be erased (--email)."""
    from streams.commands.dead_letters.command import Choice, Order, discard

    order = Order(execute, agreed, expected, actor, why)
    kafka = load(settings.KafkaSettings)
    discard(kafka, Choice(selection, as_json), order, only_superseded=superseded)


@main.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--grant", "grants", multiple=True, help="Of this grant, by ID or address; may be repeated."
)
@click.option("--field", "fields", multiple=True, help="Title, or Lead.Title; may be repeated.")
@click.option(
    "--since", metavar="TIME", help="Replaced at 2026-01-31T12:00Z, or 36h ago, or later."
)
@click.option("--until", metavar="TIME", help="Replaced before.")
@click.option(
    "--created",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="List the created records that nobody has touched, as CSV.",
)
@click.option(
    "--values",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="List every value, as CSV; the audit notes it.",
)
@EXECUTE
@YES
@ACTOR
@WHY
@JSON
def undo(
    *,
    run_id: str | None,
    grants: tuple[str, ...],
    fields: tuple[str, ...],
    since: str | None,
    until: str | None,
    created: Path | None,
    values: Path | None,
    execute: bool,
    agreed: bool,
    actor: str | None,
    why: str,
    as_json: bool,
) -> None:
    """Puts back what contactstream replaced in Salesforce.

    RUN is a backfill, reconcile, replay or redrive. All conditions must hold. Without --execute it
    only shows what would be restored, for two calls of the org for each 1,000 records.

    Only a field that still holds contactstream's value is restored. From then on the value counts
    as people's: contactstream writes the field again only where the mapping says `always`. An undo
    runs while writing is paused (contactstream pause writes), and cannot be undone.

    It deletes nothing. --created lists the records that contactstream created and that nobody has
    touched: no task, event or campaign, not converted, and modified by contactstream alone.
    """
    from streams.commands.undo.command import UndoOptions, run
    from streams.commands.undo.selected import make_choice

    choice = make_choice(run_id, grants, fields, since, until)
    options = UndoOptions(execute, agreed, created, values, actor, why, as_json)
    kafka = load(settings.KafkaSettings)
    with report_unusable_settings():
        sys.exit(run(kafka, load(settings.SalesforceSettings), choice, options))
