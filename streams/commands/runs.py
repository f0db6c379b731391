"""The commands for the runs that were asked for: which there are, how to see one again, and how to
end one.
"""

import time
from collections.abc import Mapping

import click
from confluent_kafka import KafkaException

from streams.commands.follow import (
    ACKNOWLEDGED_WITHIN,
    NotAcknowledged,
    follow,
    line,
    totals,
    watch,
    write,
)
from streams.commands.tables import table
from streams.events import UnreadableRecord
from streams.kafka.clients import BrokerUnavailable, wait_for_broker
from streams.kafka.snapshot import SnapshotStalled, read_to_end
from streams.runs import FINAL, Progress, Run, RunLog, RunState, cancel_record
from streams.settings import KafkaSettings
from streams.topics import topics

# seconds: a reader looks every 0.3, and the page at hand is acknowledged within Kafka's 20
CANCELLED_WITHIN = 60.0


def row(
    run_id: str, run: Run, grants: Mapping[str, Progress], *, ending: bool, now: float
) -> tuple[str, ...]:
    """A run for the list: its ID, what it is, who asked for it, its state, how far it is, and what
    is wrong.

    `ending` says that somebody asked for its end; `now` is in epoch seconds.
    """
    many = f"{len(run.grants or ())} grant{'' if len(run.grants or ()) == 1 else 's'}"
    what = f"{run.kind.value} of {'everything' if run.grants is None else many}{', dry run' if run.dry_run else ''}"
    state = run.state.value
    if run.state not in FINAL and ending:
        state += ", being cancelled"
    elif run.state is RunState.WAITING and run.not_before > now:
        state += time.strftime(" until %H:%M:%S", time.localtime(run.not_before))
    sums = totals(grants)
    expected = f" of about {sums.expected}" if sums.expected and run.state not in FINAL else ""
    far = (
        f"{sums.over} of {sums.grants} grants, {sums.contacts} contacts{expected}"
        if grants
        else "-"
    )
    return run_id, what, run.by, state, far, run.error or "-"


def list_runs(kafka: KafkaSettings) -> None:
    """Prints the runs of the last two weeks, the newest last. Raises click.ClickException."""
    log = read_log(kafka)
    now = time.time()
    rows = [
        row(run_id, run, log.progress(run_id), ending=run_id in log.cancelled, now=now)
        for run_id, run in sorted(
            log.runs.items(), key=lambda each: (each[1].requested_at, each[0])
        )
    ]
    table(("id", "what", "asked by", "state", "progress", "error"), rows)


def follow_again(kafka: KafkaSettings, run_id: str) -> int:
    """Shows a run until it is over; returns the exit code. Raises click.ClickException."""
    _known(read_log(kafka), run_id)
    return follow(kafka, run_id)


def cancel(kafka: KafkaSettings, run_id: str) -> int:
    """Has the reader end a run, and waits until it has; returns the exit code. Raises
    click.ClickException.
    """
    run = _known(read_log(kafka), run_id)
    if run.state in FINAL:
        click.echo(f"{run_id} is over: {run.state.value}")
        return 0
    try:
        write(kafka, cancel_record(topics(kafka), run_id), ACKNOWLEDGED_WITHIN)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    run, grants = watch(kafka, run_id, lambda *_: None, lambda _: None, within=CANCELLED_WITHIN)
    if run.state not in FINAL:
        click.echo(
            f"{run_id} is to end, but no reader has ended it yet; it does as soon as one runs",
            err=True,
        )
        return 1
    click.echo(line(run, totals(grants), None))
    return 0


def read_log(kafka: KafkaSettings) -> RunLog:
    """reader.runs as it is now. Blocks. Raises click.ClickException, with the remedy, when the
    broker or the topic is not there.
    """
    name, log = topics(kafka).runs.name, RunLog()
    try:
        wait_for_broker(
            kafka,
            [name],
            stopped=lambda: False,
            waiting=lambda _: None,
            deadline=ACKNOWLEDGED_WITHIN,
        )
        for record in read_to_end(kafka, name):
            try:
                log.apply(record.key or b"", record.value)
            except UnreadableRecord:  # the reader passes over it too, and logs it
                continue
    except (BrokerUnavailable, SnapshotStalled, KafkaException) as error:
        raise click.ClickException(str(error)) from error
    return log


def _known(log: RunLog, run_id: str) -> Run:
    run = log.runs.get(run_id)
    if run is None:
        raise click.ClickException(f"there is no run {run_id}; see: contactstream runs")
    return run
