"""The commands that ask the reader for a run, and show how far it has come."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from streams.events import UnreadableRecord
from streams.kafka import client_config, producer_config
from streams.runs import FINAL, Progress, Run, RunKind, RunLog, State, check_sources, new_run_id, run_record
from streams.settings import KafkaSettings
from streams.topics import topics

ACKNOWLEDGED_WITHIN = 30.0  # seconds: a person waits
LINE_EVERY = 5.0  # seconds between two lines of a run where there is no terminal
POLL_SECONDS = 0.2
NO_READER_AFTER = 15.0  # seconds: a session time-out and a start, then the run should have been taken up


class NotAcknowledged(RuntimeError):
    """The broker did not take the request."""


def ask(kafka: KafkaSettings, run: Run) -> str:
    """Writes a request to reader.runs; returns the run's ID. Blocks. Raises NotAcknowledged."""
    run_id = new_run_id(run.kind, run.requested_at)
    record = run_record(topics(kafka), run_id, run)
    producer = Producer(producer_config(kafka, delivery_timeout=ACKNOWLEDGED_WITHIN))
    errors: list[str] = []
    producer.produce(
        record.topic,
        record.value,
        record.key,
        on_delivery=lambda error, _message: errors.append(error.str()) if error else None,
    )
    left = producer.flush(ACKNOWLEDGED_WITHIN)
    if left or errors:
        raise NotAcknowledged(errors[0] if errors else "no acknowledgement; is the broker there?")
    return run_id


@dataclass(frozen=True, slots=True)
class Totals:
    """A run in numbers."""

    grants: int
    over: int
    failed: int
    skipped: int
    pages: int
    contacts: int
    expected: int | None
    deleted: int
    offered: int


def totals(grants: Mapping[str, Progress]) -> Totals:
    """The sums over a run's grants. `expected` is None while one of them was never read before."""
    found = list(grants.values())
    readable = [one for one in found if one.state is not State.SKIPPED]
    known = [one.contacts if one.state in FINAL else one.expected for one in readable]
    return Totals(
        grants=len(found),
        over=sum(one.state in FINAL for one in found),
        failed=sum(one.state is State.FAILED for one in found),
        skipped=sum(one.state is State.SKIPPED for one in found),
        pages=sum(one.pages for one in found),
        contacts=sum(one.contacts for one in found),
        expected=None if not known or None in known else sum(one or 0 for one in known),
        deleted=sum(one.deleted for one in found),
        offered=sum(one.offered for one in found),
    )


def line(run: Run, sums: Totals, elapsed: float) -> str:
    """A run in one line, with the time left where the grants' sizes are known."""
    parts = [
        f"{run.kind.value} {run.state.value}",
        f"{sums.over} of {sums.grants} grants",
        f"{sums.contacts} contacts"
        + (f" of about {sums.expected}" if sums.expected and run.state not in FINAL else ""),
        f"{sums.pages} pages",
    ]
    parts += [
        f"{count} {name}" for name in ("deleted", "offered", "skipped", "failed") if (count := getattr(sums, name))
    ]
    if run.state not in FINAL and sums.expected and 0 < sums.contacts < sums.expected and elapsed > 0:
        parts.append(f"about {elapsed * (sums.expected - sums.contacts) / sums.contacts:.0f} s left")
    return ", ".join(parts)


def watch(
    kafka: KafkaSettings,
    run_id: str,
    show: Callable[[Run, Mapping[str, Progress], float], None],
    hint: Callable[[str], None],
) -> tuple[Run, Mapping[str, Progress]]:
    """Follows a run until it is over, calling `show` with its state, its grants and the seconds so far. Blocks.

    No bound in time: a run takes as long as Nylas takes, and to stop watching does not stop it. `hint` is told when no reader has
    taken the run up. Raises KafkaException for what the client calls fatal.
    """
    name = topics(kafka).runs.name
    consumer = Consumer(
        client_config(kafka)
        | {"group.id": "contactstream-follow", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    seen, started, at_end, hinted = RunLog(), time.monotonic(), False, False
    try:
        consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
        while True:
            for message in consumer.consume(500, POLL_SECONDS):
                error = message.error()
                if error is None:
                    _apply(seen, message.key(), message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    at_end = True
                elif error.fatal():
                    raise KafkaException(error)
            run = seen.runs.get(run_id)
            elapsed = time.monotonic() - started
            if run is not None and at_end:
                show(run, seen.progress(run_id), elapsed)
                if run.state in FINAL:
                    return run, seen.progress(run_id)
                if run.state is State.WAITING and elapsed > NO_READER_AFTER and not hinted:
                    hint("no reader has taken the run up yet; it starts as soon as one runs: contactstream reader")
                    hinted = True
    finally:
        consumer.close()


def _apply(seen: RunLog, key: str | bytes | None, value: str | bytes | None) -> None:
    raw_key = key.encode() if isinstance(key, str) else key
    raw_value = value.encode() if isinstance(value, str) else value
    try:
        seen.apply(raw_key or b"", raw_value)
    except UnreadableRecord:  # the reader passes over it too, and logs it
        return


class _Lines:
    """Plain lines: one for each new state of the run, and between them at most one every `LINE_EVERY` seconds."""

    def __init__(self) -> None:
        self._last, self._at = "", float("-inf")
        self._state: State | None = None

    def __call__(self, run: Run, grants: Mapping[str, Progress], elapsed: float) -> None:
        text = line(run, totals(grants), elapsed)
        if text != self._last and (elapsed - self._at >= LINE_EVERY or run.state is not self._state):
            click.echo(text)
            self._last, self._at, self._state = text, elapsed, run.state


class _Bars:
    """A bar for each grant that is being read, and one for the run."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._whole = bars.add_task("all grants", total=None)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, run: Run, grants: Mapping[str, Progress], _elapsed: float) -> None:
        sums = totals(grants)
        for grant, progress in grants.items():
            over = progress.state in FINAL
            if grant not in self._tasks and not over and progress.pages:
                self._tasks[grant] = self._bars.add_task(grant[:12], total=progress.expected)
            if grant in self._tasks:
                self._bars.update(
                    self._tasks[grant],
                    completed=progress.contacts,
                    total=progress.contacts if over else progress.expected,
                    visible=not over,
                )
        if sums.expected is not None:
            self._bars.update(self._whole, completed=sums.contacts, total=max(sums.expected, sums.contacts))
        elif sums.grants:
            self._bars.update(self._whole, description="all grants (by grant)", completed=sums.over, total=sums.grants)


def follow(kafka: KafkaSettings, run_id: str) -> int:
    """Shows a run until it is over: bars on a terminal, lines elsewhere. Returns the command's exit code."""
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Bars(*columns, console=console, transient=True) as bars:
                run, grants = watch(kafka, run_id, _Bars(bars), bars.console.print)
            click.echo(line(run, totals(grants), 0))
        else:
            run, grants = watch(kafka, run_id, _Lines(), lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        click.echo(f"\nstopped watching; {run_id} goes on in the reader", err=True)
        return 130
    for grant, progress in sorted(grants.items()):
        if progress.error:
            click.echo(f"{grant} {progress.state.value}: {progress.error}", err=True)
    if run.error:
        click.echo(f"{run_id} {run.state.value}: {run.error}", err=True)
    return 1 if run.state is State.FAILED else 0


def command(
    kafka: KafkaSettings,
    kind: RunKind,
    *,
    everything: bool,
    grants: tuple[str, ...],
    sources: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    max_delete_share: float | None = None,
) -> int:
    """Asks for a run and, with `wait`, follows it; returns the exit code. Raises click.UsageError for what cannot be meant."""
    if everything == bool(grants):
        raise click.UsageError("say which address books: --all, or --grant ID (once for each)")
    try:
        chosen = check_sources(sources)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    run = Run(
        kind=kind,
        grants=None if everything else tuple(dict.fromkeys(grants)),
        requested_at=int(time.time()),
        by="command",
        sources=chosen,
        dry_run=dry_run,
        max_delete_share=max_delete_share,
    )
    try:
        run_id = ask(kafka, run)
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(run_id, file=sys.stderr if wait else sys.stdout)
    return follow(kafka, run_id) if wait else 0
