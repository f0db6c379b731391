"""Follows a run of the reader until it is over, and shows its progress."""

import time
from collections.abc import Callable, Mapping

import click
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from streams.commands.run_progress import Pace, run_line, time_left, totals
from streams.control import ControlTable, PausedPart, open_breakers
from streams.events import UnreadableRecord, now_ms
from streams.kafka.clients import ErrorLog, client_config, helper_group
from streams.kafka.polling import ConsumerErrors, EndOfPartition, TopicReplaced, poll
from streams.kafka.records import KafkaRecord
from streams.runs import FINAL, Progress, Run, RunLog, RunState
from streams.settings import KafkaSettings
from streams.topics import topics
from streams.waves import how_to_continue, waits_for_a_person

# Between two lines of a run where there is no terminal.
LINE_SECONDS = 5.0
BATCH = 500
POLL_SECONDS = 0.2
# A session time-out and the start of a reader: after that it should have started a waiting run.
NO_READER_HINT_SECONDS = 15.0

Display = Callable[[Run, Mapping[str, Progress], float], None]
"""Shows a run, its grants, and the seconds since watching began."""


def follow(kafka: KafkaSettings, run_id: str) -> int:
    """Shows a run until it is over: bars on a terminal, lines elsewhere. Returns the exit code.

    Blocks for as long as the run takes. Raises click.ClickException when Kafka fails.
    """
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with Bars(*BarDisplay.COLUMNS, console=console, transient=True) as bars:
                run, grants = watch(kafka, run_id, BarDisplay(bars), bars.console.print)
            click.echo(run_line(run, totals(grants), None))
        else:
            run, grants = watch(
                kafka, run_id, LineDisplay(), lambda text: click.echo(text, err=True)
            )
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


def watch(
    kafka: KafkaSettings,
    run_id: str,
    show: Display,
    hint: Callable[[str], None],
    within: float | None = None,
) -> tuple[Run, Mapping[str, Progress]]:
    """Reads reader.runs until a run is over, calling `show` as it goes. Blocks.

    A run takes as long as Nylas takes, so only `within` (seconds) bounds the wait: after it the run
    is returned as it is then. `hint` gets a text for the user when no reader has started the run,
    and when a failure breaker or a person pauses it, or lets it go on.
    Raises click.ClickException for an error that the Kafka client cannot recover from.
    """
    try:
        return _watch(kafka, run_id, show, hint, within)
    except (KafkaException, TopicReplaced) as error:
        raise click.ClickException(
            f"{topics(kafka).runs.name} cannot be read: {error}\n"
            f"the reader goes on; see: contactstream runs follow {run_id}"
        ) from error


def _watch(
    kafka: KafkaSettings,
    run_id: str,
    show: Display,
    hint: Callable[[str], None],
    within: float | None,
) -> tuple[Run, Mapping[str, Progress]]:
    log_error = ErrorLog()
    errors = ConsumerErrors(log_error)
    consumer = Consumer(
        client_config(kafka)
        | {
            "group.id": helper_group(kafka, "follow"),
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "error_cb": log_error,
        }
    )
    names = topics(kafka)
    followed = {names.runs.name, names.control.name}
    run_log, control, started, hinted = RunLog(), ControlTable(), time.monotonic(), False
    paused_by, to_end = "", set[str]()
    try:
        consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name in followed])
        while True:
            for event in poll(consumer, BATCH, POLL_SECONDS, errors):
                if isinstance(event, EndOfPartition):
                    to_end.add(event.topic)
                elif event.topic == names.control.name:
                    control.apply(event)
                else:
                    apply_readable(run_log, event)
            run = run_log.runs.get(run_id)
            if run is None or to_end != followed:
                continue
            now_by = paused_by if run.state in FINAL else _why_waits(run_id, run, run_log, control)
            if now_by != paused_by:
                paused_by = now_by
                hint(pause_hint(paused_by))
            elapsed = time.monotonic() - started
            show(run, run_log.progress(run_id), elapsed)
            if run.state in FINAL or (within is not None and elapsed > within):
                return run, run_log.progress(run_id)
            if not hinted and _no_reader_started(run, elapsed):
                hint(
                    "no reader has started the run yet; "
                    "it starts as soon as one is running: contactstream reader"
                )
                hinted = True
    finally:
        consumer.close()


def _why_waits(run_id: str, run: Run, run_log: RunLog, control: ControlTable) -> str:
    grants, continued = run_log.progress(run_id), run_log.continued.get(run_id, 0)
    if waits_for_a_person(run, grants, continued):
        return f"a wave is read; the next one needs {how_to_continue(run_id)}"
    return "" if run.dry_run else why_runs_wait(control, now_ms())


def why_runs_wait(control: ControlTable, now_ms: int) -> str:
    """Why no run goes on, with the command that tells more; empty if they go on."""
    pause = control.pause_of(PausedPart.READING, now_ms)
    if pause is not None:
        return f"{pause.by} paused reading; see contactstream pause"
    opened = open_breakers(control.breakers.values())
    if opened:
        return f"too many contacts fail with {opened[0].reason}; see contactstream breakers"
    return ""


def pause_hint(why: str) -> str:
    """What to tell who waits for a run when it has to wait (`why_runs_wait`), or goes on."""
    return f"the run is paused: {why}" if why else "the run goes on"


def apply_readable(run_log: RunLog, record: KafkaRecord) -> None:
    """Applies a record of reader.runs, and skips one that cannot be read, as the reader does."""
    try:
        run_log.apply(record.key or b"", record.value)
    except UnreadableRecord:  # the reader logs it
        return


def _no_reader_started(run: Run, elapsed: float) -> bool:
    return (
        run.state is RunState.WAITING
        and elapsed > NO_READER_HINT_SECONDS
        and time.time() > run.not_before + NO_READER_HINT_SECONDS
    )


class LineDisplay:
    """Prints a line for each new state of the run, and at most one every LINE_SECONDS between."""

    def __init__(self) -> None:
        self._last_line, self._printed_at = "", float("-inf")
        self._state: RunState | None = None
        self._pace = Pace()

    def __call__(self, run: Run, grants: Mapping[str, Progress], elapsed: float) -> None:
        sums = totals(grants)
        line = run_line(run, sums, self._pace.seconds_left(sums, elapsed))
        due = elapsed - self._printed_at >= LINE_SECONDS or run.state is not self._state
        if due and line != self._last_line:
            click.echo(line)
            self._last_line, self._printed_at, self._state = line, elapsed, run.state


class BarDisplay:
    """Draws a bar for each grant that is being read, and one for the run with the time left."""

    COLUMNS = (
        TextColumn("{task.description}", markup=False),  # a grant's ID may look like markup
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._run_bar = bars.add_task("all grants", total=None, left="")
        self._grant_bars: dict[str, TaskID] = {}
        self._pace = Pace()

    def __call__(self, _run: Run, grants: Mapping[str, Progress], elapsed: float) -> None:
        for grant, progress in grants.items():
            self._draw_grant(grant, progress)
        sums = totals(grants)
        left = time_left(sums, self._pace.seconds_left(sums, elapsed))
        if sums.expected is not None:
            self._bars.update(
                self._run_bar,
                description="all contacts",
                completed=sums.contacts,
                total=max(sums.expected, sums.contacts),
                left=left,
            )
        elif sums.grants:
            self._bars.update(
                self._run_bar,
                description="all grants",
                completed=sums.finished,
                total=sums.grants,
                left=left,
            )

    def _draw_grant(self, grant: str, progress: Progress) -> None:
        finished = progress.state in FINAL
        if grant not in self._grant_bars and not finished and progress.pages:
            self._grant_bars[grant] = self._bars.add_task(
                grant[:12], total=progress.expected, left=""
            )
        if grant in self._grant_bars:
            self._bars.update(
                self._grant_bars[grant],
                completed=progress.contacts,
                total=progress.contacts if finished else progress.expected,
                visible=not finished,
            )
