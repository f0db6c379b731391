"""The commands backfill, reconcile and runs: starts, lists, follows and cancels runs."""

import sys
import time
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import click

from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.follow import apply_readable, follow, watch, why_runs_wait
from streams.commands.publishing import (
    ACKNOWLEDGE_SECONDS,
    CommandPublisher,
    NotAcknowledged,
)
from streams.commands.run_progress import run_line, totals
from streams.commands.run_requests import request_run, write_record
from streams.commands.tables import print_table
from streams.commands.topic_records import topic_records
from streams.events import now_ms
from streams.runs import (
    FINAL,
    Progress,
    Run,
    RunKind,
    RunLog,
    RunState,
    cancel_record,
    check_sources,
    continue_record,
)
from streams.settings import KafkaSettings
from streams.topics import topics
from streams.waves import how_to_continue, waits_for_a_person

# A reader polls for requests every 0.3 s, and the page it is reading is acknowledged within
# Kafka's 20 s.
CANCEL_WAIT_SECONDS = 60.0


def start_run(
    kafka: KafkaSettings,
    kind: RunKind,
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    max_delete_share: float | None = None,
    wave: int = 0,
) -> int:
    """Asks the reader for a run and, with `wait`, follows it; returns the exit code.

    Raises click.UsageError for options that contradict each other, and click.ClickException.
    """
    run = new_run(
        kind,
        everything=everything,
        grants=grants,
        sources=sources,
        dry_run=dry_run,
        max_delete_share=max_delete_share,
        wave=wave,
        by="command",
    )
    try:
        run_id = request_run(kafka, run)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(run_id, file=sys.stderr if wait else sys.stdout)
    return follow(kafka, run_id) if wait else 0


def new_run(
    kind: RunKind,
    *,
    everything: bool,
    grants: Sequence[str],
    sources: Sequence[str] = (),
    dry_run: bool = False,
    max_delete_share: float | None = None,
    wave: int = 0,
    by: str,
) -> Run:
    """A request for a run of now. Raises click.UsageError for options that contradict each other.

    `by` is what asks for it: `command` or `console`.
    """
    if everything == bool(grants):
        raise click.UsageError("name the address books: either --all, or --grant ID for each one")
    try:
        chosen = check_sources(sources)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return Run(
        kind=kind,
        grants=None if everything else tuple(dict.fromkeys(grants)),
        requested_at=int(time.time()),
        by=by,
        sources=chosen,
        dry_run=dry_run,
        max_delete_share=max_delete_share,
        wave=wave,
    )


def list_runs(kafka: KafkaSettings) -> None:
    """Prints the runs of the last two weeks, the newest last. Raises click.ClickException."""
    run_log = read_run_log(kafka)
    now = time.time()
    paused_by = why_runs_wait(read_control(kafka), now_ms())
    in_order = sorted(run_log.runs.items(), key=lambda item: (item[1].requested_at, item[0]))
    print_table(
        ("id", "what", "asked by", "state", "progress", "error"),
        [
            run_row(
                run_id,
                run,
                run_log.progress(run_id),
                cancel_requested=run_id in run_log.cancelled,
                now=now,
                paused_by=paused_by,
                continued=run_log.continued.get(run_id, 0),
            )
            for run_id, run in in_order
        ],
    )


def run_row(
    run_id: str,
    run: Run,
    grants: Mapping[str, Progress],
    *,
    cancel_requested: bool,
    now: float,
    paused_by: str = "",
    continued: int = 0,
) -> tuple[str, ...]:
    """A run's row in the list: its ID, what it reads, who asked, its state, progress and error.

    `now` is in epoch seconds. `paused_by` is what `why_runs_wait` says. `continued` is how often a
    person continued the run.
    """
    over = run.state in FINAL
    state = run.state.value
    if not over and cancel_requested:
        state += ", being cancelled"
    elif waits_for_a_person(run, grants, continued):
        state += f", waits after a wave: {how_to_continue(run_id)}"
    elif run.state is RunState.WAITING and run.not_before > now:
        state += time.strftime(" until %H:%M:%S", time.localtime(run.not_before))
    elif not over and paused_by and not run.dry_run:
        state += f", paused: {paused_by}"
    progress = "-"
    if grants:
        sums = totals(grants)
        of_about = f" of about {sums.expected}" if sums.expected and not over else ""
        parts = "partitions" if run.kind is RunKind.REPLAY else "grants"
        progress = f"{sums.finished} of {sums.grants} {parts}, {sums.contacts} contacts{of_about}"
    return run_id, what_it_reads(run), run.by, state, progress, run.error or "-"


def what_it_reads(run: Run) -> str:
    """What a run does, in a few words: `reconcile of 3 grants, dry run`."""
    if run.replay is not None:
        limited = "" if run.replay.selection.takes_everything else ", selected"
        restoring = f", restoring {', '.join(run.replay.restore)}" if run.replay.restore else ""
        target = f" to {run.replay.target.prefix}" if run.replay.target else ""
        source = run.replay.source.value
        return f"{run.kind.value} of contacts.{source}{target}{limited}{restoring}"
    if run.grants is None:
        scope = "everything"
    else:
        scope = f"{len(run.grants)} grant{'' if len(run.grants) == 1 else 's'}"
    waves = f", in waves of {run.wave}" if run.wave else ""
    return f"{run.kind.value} of {scope}{waves}{', dry run' if run.dry_run else ''}"


def follow_run(kafka: KafkaSettings, run_id: str) -> int:
    """Shows a run until it is over; returns the exit code. Raises click.ClickException."""
    _known_run(read_run_log(kafka), run_id)
    return follow(kafka, run_id)


def cancel_run(kafka: KafkaSettings, run_id: str) -> int:
    """Has the reader end a run, and waits until it has; returns the exit code.

    Raises click.ClickException.
    """
    run = request_cancel(kafka, run_id)
    if run.state in FINAL:
        click.echo(f"{run_id} is over: {run.state.value}")
        return 0
    run, grants = watch(kafka, run_id, lambda *_: None, lambda _: None, within=CANCEL_WAIT_SECONDS)
    if run.state not in FINAL:
        click.echo(
            f"the request to cancel {run_id} is stored, but no reader has acted on it yet; "
            "one does as soon as it is running: contactstream reader",
            err=True,
        )
        return 1
    click.echo(run_line(run, totals(grants), None))
    return 0


def continue_run(kafka: KafkaSettings, run_id: str, actor: str | None, *, dry_run: bool) -> None:
    """Lets a run that waits after a wave read the next one, and writes the audit. Blocks.

    Raises click.UsageError for a run that does not wait, and click.ClickException.
    """
    run_log = read_run_log(kafka)
    run, grants = _known_run(run_log, run_id), run_log.progress(run_id)
    continued = run_log.continued.get(run_id, 0)
    if not run.wave:
        raise click.UsageError(f"{run_id} is not in waves; only backfill --wave makes them")
    if run.state in FINAL:
        raise click.UsageError(f"{run_id} is over: {run.state.value}")
    if not waits_for_a_person(run, grants, continued):
        raise click.UsageError(
            f"{run_id} still reads its wave; see: contactstream runs follow {run_id}"
        )
    left = sum(one.state not in FINAL for one in grants.values())
    size = min(run.wave, left)
    if dry_run:
        click.echo(f"{run_id} would read {size} of {left} grants that are left")
        return
    at_ms = now_ms()
    noted = AuditEntry(
        f"{at_ms}-continue-{run_id}",
        AuditState.ENDED,
        at_ms,
        actor_name(actor),
        "runs continue",
        f"wave {continued + 2}",
        {"run": run_id},
        size,
    )
    names = topics(kafka)
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(names.audit.name, noted)])
            publisher.publish([continue_record(names, run_id, continued + 1)])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{run_id} reads {size} of {left} grants that are left")


def request_cancel(kafka: KafkaSettings, run_id: str) -> Run:
    """Asks the reader to end a run that is not over; returns the run as it was before. Blocks.

    Raises click.ClickException.
    """
    run = _known_run(read_run_log(kafka), run_id)
    if run.state not in FINAL:
        try:
            write_record(kafka, cancel_record(topics(kafka), run_id), ACKNOWLEDGE_SECONDS)
        except NotAcknowledged as error:
            raise click.ClickException(str(error)) from error
    return run


def read_run_log(kafka: KafkaSettings) -> RunLog:
    """reader.runs as it is now. Blocks.

    Raises click.ClickException, with the remedy, when the broker or the topic is not there.
    """
    run_log = RunLog()
    for record in topic_records(kafka, topics(kafka).runs.name):
        apply_readable(run_log, record)
    return run_log


def _known_run(run_log: RunLog, run_id: str) -> Run:
    run = run_log.runs.get(run_id)
    if run is None:
        close = get_close_matches(run_id, run_log.runs, 1)
        hint = f"did you mean {close[0]}? See" if close else "see"
        raise click.UsageError(f"there is no run {run_id}; {hint}: contactstream runs")
    return run
