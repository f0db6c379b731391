"""The commands that ask the reader for a run, and show how far it has come."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from streams.events import UnreadableRecord
from streams.kafka.clients import client_config, producer_config
from streams.kafka.records import KafkaRecord
from streams.runs import (
    FINAL,
    Progress,
    Run,
    RunKind,
    RunLog,
    RunState,
    check_sources,
    new_run_id,
    run_record,
)
from streams.settings import KafkaSettings
from streams.topics import topics

ACKNOWLEDGED_WITHIN = 30.0  # seconds: a person waits
LINE_EVERY = 5.0  # seconds between two lines of a run where there is no terminal
POLL_SECONDS = 0.2
NO_READER_AFTER = (
    15.0  # seconds: a session time-out and a start, then the run should have been taken up
)


class NotAcknowledged(RuntimeError):
    """The broker did not take the request."""


def ask(kafka: KafkaSettings, run: Run, within: float = ACKNOWLEDGED_WITHIN) -> str:
    """Writes a request to reader.runs; returns the run's ID. Blocks for up to `within` seconds.
    Raises NotAcknowledged.
    """
    run_id = new_run_id(run.kind, run.requested_at)
    write(kafka, run_record(topics(kafka), run_id, run), within)
    return run_id


def write(kafka: KafkaSettings, record: KafkaRecord, within: float) -> None:
    """Writes a record and waits up to `within` seconds for its acknowledgement. Blocks. Raises
    NotAcknowledged.
    """
    faults: list[str] = []  # of the connection; a log line would stand between a command's own
    config = producer_config(kafka, delivery_timeout=within)
    producer = Producer(
        config | {"log_level": 0, "error_cb": lambda error: faults.append(error.str())}
    )
    errors: list[str] = []
    producer.produce(
        record.topic,
        record.value,
        record.key,
        on_delivery=lambda error, _message: errors.append(error.str()) if error else None,
    )
    left = producer.flush(within)
    if left or errors:
        raise NotAcknowledged(
            (faults or errors or ["no acknowledgement; is the broker there?"])[-1]
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """A run in numbers. `expected` is None while nothing says how large one of its address books
    is; `guessed` counts those of which only the ones that are done give an idea.
    """

    grants: int
    over: int
    failed: int
    skipped: int
    pages: int
    contacts: int
    expected: int | None
    guessed: int
    deleted: int
    offered: int


def totals(grants: Mapping[str, Progress]) -> Totals:
    """The sums over a run's grants.

    An address book that was never read before counts as the mean of those that this run has done,
    or as what it has shown so far.
    """
    found = list(grants.values())
    readable = [one for one in found if one.state is not RunState.SKIPPED]
    done = [one.contacts for one in readable if one.state in (RunState.SCANNED, RunState.DONE)]
    known = [
        one.contacts if one.state in FINAL or one.state is RunState.SCANNED else one.expected
        for one in readable
    ]
    mean = sum(done) / len(done) if done else None
    unknown = [one.contacts for one, size in zip(readable, known, strict=True) if size is None]
    guesses = [] if mean is None else [max(round(mean), contacts) for contacts in unknown]
    return Totals(
        grants=len(found),
        over=sum(one.state in FINAL for one in found),
        failed=sum(one.state is RunState.FAILED for one in found),
        skipped=sum(one.state is RunState.SKIPPED for one in found),
        pages=sum(one.pages for one in found),
        contacts=sum(one.contacts for one in found),
        expected=None
        if not known or len(guesses) < len(unknown)
        else sum(size or 0 for size in known) + sum(guesses),
        guessed=len(guesses),
        deleted=sum(one.deleted for one in found),
        offered=sum(one.offered for one in found),
    )


class Pace:
    """How fast a run goes since one watches it: what was read before took a time that nobody here
    measured.
    """

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def left(self, sums: Totals, elapsed: float) -> float | None:
        """Seconds to the end at this pace; None while the sizes or the pace are not known."""
        if (
            self._began is None or sums.contacts < self._began[1]
        ):  # a lost cursor starts a grant again
            self._began = elapsed, sums.contacts
        since, contacts = elapsed - self._began[0], sums.contacts - self._began[1]
        if sums.expected is None or since <= 0 or contacts <= 0:
            return None
        return since * max(0, sums.expected - sums.contacts) / contacts


def lasts(seconds: float) -> str:
    """A time in words, as exact as an estimate may be."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_left(sums: Totals, left: float | None) -> str:
    """The time left in words, and what it is judged by."""
    if sums.grants == 0 or sums.over == sums.grants:
        return ""
    if sums.expected is None:
        return "time left not known before an address book is done"
    if left is None:
        return ""
    judged = f", judging {sums.guessed} of them by those that are done" if sums.guessed else ""
    return f"about {lasts(left)} left{judged}"


def line(run: Run, sums: Totals, left: float | None) -> str:
    """A run in one line, with the time `left` (seconds) where it can be told."""
    running = run.state not in FINAL
    parts = [
        f"{run.kind.value} {run.state.value}",
        f"{sums.over} of {sums.grants} grants",
        f"{sums.contacts} contacts"
        + (f" of about {sums.expected}" if sums.expected and running else ""),
        f"{sums.pages} pages",
    ]
    if run.dry_run and run.kind is RunKind.RECONCILE:
        parts += [f"{sums.deleted} would be deleted", f"{sums.offered} would be offered again"]
    else:
        parts += [
            f"{count} {name}" for name in ("deleted", "offered") if (count := getattr(sums, name))
        ]
    parts += [f"{count} {name}" for name in ("skipped", "failed") if (count := getattr(sums, name))]
    if running and (text := time_left(sums, left)):
        parts.append(text)
    return ", ".join(parts)


def watch(
    kafka: KafkaSettings,
    run_id: str,
    show: Callable[[Run, Mapping[str, Progress], float], None],
    hint: Callable[[str], None],
    within: float | None = None,
) -> tuple[Run, Mapping[str, Progress]]:
    """Follows a run until it is over, calling `show` with its state, its grants and the seconds so
    far. Blocks.

    No bound in time without `within` (seconds), after which the run is returned as it is: a run
    takes as long as Nylas takes, and to stop watching does not stop it. `hint` is told when no
    reader has taken the run up. Raises KafkaException for what the client calls fatal.
    """
    name = topics(kafka).runs.name
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": "contactstream-follow",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
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
                if run.state in FINAL or (within is not None and elapsed > within):
                    return run, seen.progress(run_id)
                due = (
                    run.state is RunState.WAITING and time.time() > run.not_before + NO_READER_AFTER
                )
                if due and elapsed > NO_READER_AFTER and not hinted:
                    hint(
                        "no reader has taken the run up yet; it starts as soon as one runs: contactstream reader"
                    )
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


class Lines:
    """Plain lines: one for each new state of the run, and between them at most one every
    `LINE_EVERY` seconds.
    """

    def __init__(self) -> None:
        self._last, self._at = "", float("-inf")
        self._state: RunState | None = None
        self._pace = Pace()

    def __call__(self, run: Run, grants: Mapping[str, Progress], elapsed: float) -> None:
        sums = totals(grants)
        text = line(run, sums, self._pace.left(sums, elapsed))
        if text != self._last and (
            elapsed - self._at >= LINE_EVERY or run.state is not self._state
        ):
            click.echo(text)
            self._last, self._at, self._state = text, elapsed, run.state


class GrantBars:
    """A bar for each grant that is being read, and one for the run, with the time left."""

    COLUMNS = (
        TextColumn("{task.description}", markup=False),  # a grant's ID is whatever Nylas says
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._whole = bars.add_task("all grants", total=None, left="")
        self._tasks: dict[str, TaskID] = {}
        self._pace = Pace()

    def __call__(self, _run: Run, grants: Mapping[str, Progress], elapsed: float) -> None:
        sums = totals(grants)
        for grant, progress in grants.items():
            over = progress.state in FINAL
            if grant not in self._tasks and not over and progress.pages:
                self._tasks[grant] = self._bars.add_task(
                    grant[:12], total=progress.expected, left=""
                )
            if grant in self._tasks:
                self._bars.update(
                    self._tasks[grant],
                    completed=progress.contacts,
                    total=progress.contacts if over else progress.expected,
                    visible=not over,
                )
        left = time_left(sums, self._pace.left(sums, elapsed))
        if sums.expected is not None:
            total = max(sums.expected, sums.contacts)
            self._bars.update(
                self._whole,
                description="all contacts",
                completed=sums.contacts,
                total=total,
                left=left,
            )
        elif sums.grants:
            self._bars.update(
                self._whole,
                description="all grants",
                completed=sums.over,
                total=sums.grants,
                left=left,
            )


def follow(kafka: KafkaSettings, run_id: str) -> int:
    """Shows a run until it is over: bars on a terminal, lines elsewhere. Returns the command's exit
    code.
    """
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with Bars(*GrantBars.COLUMNS, console=console, transient=True) as bars:
                run, grants = watch(kafka, run_id, GrantBars(bars), bars.console.print)
            click.echo(line(run, totals(grants), None))
        else:
            run, grants = watch(kafka, run_id, Lines(), lambda text: click.echo(text, err=True))
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped watching; the reader goes on. See: contactstream runs follow {run_id}",
            err=True,
        )
        return 130
    for grant, progress in sorted(grants.items()):
        if progress.error:
            click.echo(f"{grant} {progress.state.value}: {progress.error}", err=True)
    if run.error:
        click.echo(f"{run_id} {run.state.value}: {run.error}", err=True)
    return 1 if run.state in (RunState.FAILED, RunState.CANCELLED) else 0


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
    """Asks for a run and, with `wait`, follows it; returns the exit code. Raises click.UsageError
    for what cannot be meant.
    """
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
