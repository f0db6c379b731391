"""Commands that have the reader read address books, and follow it."""

import sys

import click

from streams import settings
from streams.cli.loading import load
from streams.cli.options import ACTOR, ALL, DRY_RUN, GRANT, SOURCE, WAIT
from streams.cli.root import main


@main.command()
@ALL
@GRANT
@SOURCE
@WAIT
@DRY_RUN
@click.option(
    "--wave",
    type=click.IntRange(min=1),
    default=None,
    help="Read so many address books, then wait for `contactstream runs continue ID`.",
)
def backfill(
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    wave: int | None,
) -> None:
    """Has the reader read whole address books.

    With --wave it reads some of them and waits, so that a person can look at the result first.
    Interrupting this command does not stop the run: see `contactstream runs`.
    """
    from streams.commands.runs import start_run
    from streams.runs import RunKind

    kafka = load(settings.KafkaSettings)
    sys.exit(
        start_run(
            kafka,
            RunKind.BACKFILL,
            everything=everything,
            grants=grants,
            sources=sources,
            wait=wait,
            dry_run=dry_run,
            wave=wave or 0,
        )
    )


@main.command()
@ALL
@GRANT
@SOURCE
@WAIT
@DRY_RUN
@click.option(
    "--max-delete-share",
    type=click.FloatRange(0, 1),
    help="Stop when more than this share (0 to 1) of the known contacts would be deleted; "
    "the default is READER_MAX_DELETE_SHARE.",
)
def reconcile(
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    max_delete_share: float | None,
) -> None:
    """Has the reader compare address books with what was synced.

    It publishes what changed, deletes what is missing, and offers contacts again that have no
    record of their own: those that filled another contact's record, and those that
    `contactstream review` lists.
    """
    from streams.commands.runs import start_run
    from streams.runs import RunKind

    kafka = load(settings.KafkaSettings)
    sys.exit(
        start_run(
            kafka,
            RunKind.RECONCILE,
            everything=everything,
            grants=grants,
            sources=sources,
            wait=wait,
            dry_run=dry_run,
            max_delete_share=max_delete_share,
        )
    )


@main.group(invoke_without_command=True)
@click.pass_context
def runs(context: click.Context) -> None:
    """Lists, follows, continues and cancels backfills and reconciles.

    Without a subcommand it lists the runs of the last two weeks, the newest last.
    """
    if context.invoked_subcommand is None:
        from streams.commands.runs import list_runs

        list_runs(load(settings.KafkaSettings))


@runs.command(name="follow")
@click.argument("run_id", metavar="ID")
def runs_follow(*, run_id: str) -> None:
    """Shows the progress of a run until it is over."""
    from streams.commands.runs import follow_run

    sys.exit(follow_run(load(settings.KafkaSettings), run_id))


@runs.command(name="cancel")
@click.argument("run_id", metavar="ID")
def runs_cancel(*, run_id: str) -> None:
    """Ends a run: at once if it waits, else after the page being read.

    Contacts that were already read stay published.
    """
    from streams.commands.runs import cancel_run

    sys.exit(cancel_run(load(settings.KafkaSettings), run_id))


@runs.command(name="continue")
@click.argument("run_id", metavar="ID")
@ACTOR
@click.option("--dry-run", is_flag=True, help="Say how many address books it would read.")
def runs_continue(*, run_id: str, actor: str | None, dry_run: bool) -> None:
    """Lets a backfill in waves read its next wave. It says how many address books are left."""
    from streams.commands.runs import continue_run

    continue_run(load(settings.KafkaSettings), run_id, actor, dry_run=dry_run)
