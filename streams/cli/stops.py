"""Commands that decide what the sink and the reader may do: breakers, pauses, limits, the mode."""

from collections.abc import Callable

import click

from streams import settings
from streams.cli.loading import load
from streams.cli.options import JSON, WHY
from streams.cli.root import main


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def breakers(context: click.Context, *, as_json: bool) -> None:
    """Lists the failure breakers that are open, and releases one.

    A breaker opens when too many contacts fail for one reason, so that a bad deploy or a new rule
    in Salesforce does not turn every change into a dead letter. It stops bulk runs (backfill,
    reconcile, replay), or all writing. Nothing is lost: what was not written waits in Kafka.
    """
    if context.invoked_subcommand is None:
        from streams.commands.breakers import list_breakers

        list_breakers(load(settings.KafkaSettings), as_json=as_json)


@breakers.command(name="release")
@click.argument("reason", metavar="REASON")
@click.option(
    "--for",
    "accepted_for",
    default="1h",
    show_default=True,
    help="How long bulk runs may fail for this reason without being stopped again: 30m, 6h, 2d.",
)
@WHY
@click.option("--actor", help="Who releases it; the default is the user of the operating system.")
def breakers_release(*, reason: str, accepted_for: str, why: str, actor: str | None) -> None:
    """Lets go on what the breaker of REASON stops, within 5 seconds.

    Correct the cause first. Counting starts anew; the limit for all changes counts at once, and the
    limit for bulk runs after the time of --for.
    """
    from streams.commands.breakers import release

    release(load(settings.KafkaSettings), reason, accepted_for, why, actor)


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def pause(context: click.Context, *, as_json: bool) -> None:
    """Pauses a part of the flow until a given time; alone, lists what is paused.

    The pause survives restarts and takeovers. Nothing is lost: what is not done waits in Kafka.
    """
    if context.invoked_subcommand is None:
        from streams.commands.pauses import list_pauses

        list_pauses(load(settings.KafkaSettings), as_json=as_json)


def _pause_options(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option(
            "--until",
            required=True,
            help="When the pause ends by itself: 2026-01-31T18:00Z, or 2h from now.",
        ),
        click.option("--why", required=True, help="Why, for the others and for the audit."),
        click.option("--actor", help="Who pauses; the default is the user of the system."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@pause.command(name="writes")
@_pause_options
def pause_writes(*, until: str, why: str, actor: str | None) -> None:
    """Nothing is written to Salesforce, within 5 seconds. Calls in flight end."""
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(load(settings.KafkaSettings), PausedPart.WRITES, until, why, actor)


@pause.command(name="creations")
@_pause_options
def pause_creations(*, until: str, why: str, actor: str | None) -> None:
    """Nobody is created, within 5 seconds; existing records are updated on.

    Who would be created is held, and offered again by resume creations.
    """
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(load(settings.KafkaSettings), PausedPart.CREATIONS, until, why, actor)


@pause.command(name="reading")
@_pause_options
def pause_reading(*, until: str, why: str, actor: str | None) -> None:
    """Nylas is asked for nothing, and replays wait. Webhooks are received and written on."""
    from streams.commands.pauses import pause as begin
    from streams.control import PausedPart

    begin(load(settings.KafkaSettings), PausedPart.READING, until, why, actor)


@main.command()
@click.argument("part", type=click.Choice(["writes", "creations", "reading"]))
@click.option("--actor", help="Who resumes; the default is the user of the system.")
def resume(*, part: str, actor: str | None) -> None:
    """Ends a pause before its time, within 5 seconds."""
    from streams.commands.pauses import resume as end
    from streams.control import PausedPart

    end(load(settings.KafkaSettings), PausedPart(part), actor)


_HELD_BY = (
    click.option(
        "--grant", "grants", multiple=True, help="Of this grant, by ID or address; may be repeated."
    ),
    click.option("--limit", "limits", multiple=True, help="Only by this limit; several times."),
)


def _held_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_HELD_BY):
        command = option(command)
    return command


@main.group(invoke_without_command=True)
@_held_options
@click.option("--people", is_flag=True, help="List contacts one by one, with masked addresses.")
@JSON
@click.pass_context
def held(
    context: click.Context,
    *,
    grants: tuple[str, ...],
    limits: tuple[str, ...],
    people: bool,
    as_json: bool,
) -> None:
    """Lists the people whom a limit holds, and releases them.

    Nothing was written for them. A limit is one of creations for each day, or for each day and
    mailbox, of replaced values for each hour, or of the org's storage; or creations are paused.
    """
    if context.invoked_subcommand is None:
        from streams.commands.held import list_held

        kafka = load(settings.KafkaSettings)
        list_held(kafka, grants, limits, people=people, as_json=as_json)


@held.command(name="release")
@click.option("--all", "everybody", is_flag=True, help="Everybody who is held.")
@_held_options
@click.option("--why", required=True, help="Why, for the others and for the audit.")
@click.option("--dry-run", is_flag=True, help="Only say how many would be released.")
@click.option("--actor", help="Who releases them; the default is the user of the system.")
def held_release(
    *,
    everybody: bool,
    grants: tuple[str, ...],
    limits: tuple[str, ...],
    why: str,
    dry_run: bool,
    actor: str | None,
) -> None:
    """Has held people written, whatever the limits say; the limits stay as they are.

    The reader offers them to the sink again, without asking Nylas.
    """
    from streams.commands.held import release, release_selection

    selection = release_selection(grants, limits, everybody=everybody)
    release(load(settings.KafkaSettings), selection, why, actor, dry_run=dry_run)


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def mode(context: click.Context, *, as_json: bool) -> None:
    """Shows what may be written to Salesforce, and changes it.

    A mode that is set here survives restarts and takeovers, and wins over SALESFORCE_MODE.
    """
    if context.invoked_subcommand is None:
        from streams.commands.mode import show

        show(load(settings.KafkaSettings), load(settings.SalesforceSettings), as_json=as_json)


@mode.command(name="show")
@JSON
def mode_show(*, as_json: bool) -> None:
    """Shows the mode in force, where it comes from, and what each mode means."""
    from streams.commands.mode import show

    show(load(settings.KafkaSettings), load(settings.SalesforceSettings), as_json=as_json)


@mode.command(name="set")
@click.argument("name", metavar="MODE")
@click.option("--why", required=True, help="Why, for the others and for the audit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be set and offered again.")
@click.option("--actor", help="Who sets it; the default is the user of the system.")
def mode_set(*, name: str, why: str, dry_run: bool, actor: str | None) -> None:
    """Sets the mode: report-only, fill-blanks, enrich-only, create-only or mirror.

    The sink obeys within 5 seconds, without a restart. Contacts that the new mode does more for are
    offered to the sink again, without asking Nylas.
    """
    from streams.commands.mode import set_mode

    set_mode(load(settings.KafkaSettings), name, why, actor, dry_run=dry_run)
