"""Collects the figures of a status from Kafka and Salesforce. Joins no consumer group."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.api.own_calls import OwnCalls
from streams.commands.breakers import read_control
from streams.commands.dead_letters.open_letters import scan
from streams.commands.mailboxes import read_mailboxes
from streams.commands.run_progress import run_line, totals
from streams.commands.runs import read_run_log
from streams.commands.status.figures import (
    BackfillFigures,
    LetterFigures,
    OutcomeFigures,
    StageFigures,
    Status,
    outcome_figures,
)
from streams.commands.status.limits import LimitUse, limit_uses
from streams.commands.status.org import OrgFigures
from streams.commands.topic_records import BROKER_WAIT_SECONDS, topic_records
from streams.control import open_breakers
from streams.control_mode import mode_in_force
from streams.events import received_at
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.kafka.lag import LagReader
from streams.kafka.records import header
from streams.kafka.snapshot import read_to_end
from streams.kafka.topic_policy import RETENTION, Topic
from streams.mailboxes import MailboxRule
from streams.runs import FINAL, Run, RunKind, RunLog, RunState
from streams.selection import Selection
from streams.settings import KafkaSettings, SinkSettings
from streams.sink.spent import Spent, read_spent
from streams.topics import group, topics
from streams.waves import how_to_continue, waits_for_a_person

# The newest outcomes that are looked at: read within a second or two.
OUTCOME_OFFSETS = 20_000

# Between two looks at the offsets, from which the rates follow.
SAMPLE_SECONDS = 2.0

# Between two readings of the day's outcomes, of which there may be a million.
SPENT_SECONDS = 60.0

# One request of the admin client.
ADMIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The offsets at one moment, by partition."""

    at: float
    """Monotonic seconds."""
    events_end: Mapping[int, int]
    dedupe: Mapping[int, tuple[int, int]]
    sink: Mapping[int, tuple[int, int]]
    refetch: Mapping[int, tuple[int, int]]


def _print_reason(reason: str) -> None:
    click.echo(reason, err=True)


class StatusCollector:
    """Asks Kafka for the figures, again and again where somebody watches.

    Every method blocks, and raises click.ClickException when no broker answers.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        mode_setting: str,
        mailboxes: MailboxRule,
        waiting: Callable[[str], None] = _print_reason,
        sink: SinkSettings | None = None,
        max_calls: int = 0,
    ) -> None:
        """`mode_setting` is SALESFORCE_MODE; `mailboxes` is what the settings select.

        `waiting` gets what is waited for. `sink` has the limits, and `max_calls` is
        SALESFORCE_MAX_CALLS_PER_DAY; without `sink` no use of a limit is shown.
        """
        self._sink, self._max_calls = sink, max_calls
        self._spent, self._spent_read = Spent(), float("-inf")
        self._mode_setting = mode_setting
        self._kafka, self._mailboxes, self._waiting = kafka, mailboxes, waiting
        self._names = topics(kafka)
        # Reported errors end the command; the clients themselves print none.
        config = client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None}
        self._lags = LagReader(config)
        self._admin_config = config

    def sample(self) -> Sample:
        """The offsets now."""
        names, kafka = self._names, self._kafka
        events, changes, refetch = names.events, names.changes, names.refetch
        try:
            wait_for_broker(
                kafka,
                [events.name, changes.name],
                stopped=lambda: False,
                waiting=self._waiting,
                deadline=BROKER_WAIT_SECONDS,
            )
            return Sample(
                time.monotonic(),
                self._lags.ends(events.name, events.partitions),
                self._lags.lags(group(kafka, "dedupe"), events.name, events.partitions),
                self._lags.lags(group(kafka, "sink"), changes.name, changes.partitions),
                self._lags.lags(group(kafka, "reader-work"), refetch.name, refetch.partitions),
            )
        except (BrokerUnavailable, KafkaException) as error:
            raise click.ClickException(f"Kafka does not answer: {error}") from error

    def status(self, before: Sample, now: Sample, org: OrgFigures | None = None) -> Status:
        """The status at the second of two samples; `org` is what the org says, if it was asked."""
        org = org or OrgFigures()
        now_ms = int(time.time() * 1000)
        try:
            control = read_control(self._kafka)
            run_log = read_run_log(self._kafka)
            return Status(
                now_ms,
                self._stages(before, now),
                self._outcomes(now_ms),
                org.calls,
                open_breakers(control.breakers.values()),
                self._letters(),
                runs_at_work(run_log),
                control.pauses_now(now_ms),
                mode_in_force(control.mode, self._mode_setting, has_outcomes=self._has_outcomes()),
                read_mailboxes(self._kafka, self._mailboxes),
                control.org,
                org.org_id,
                self._limits(org.storage),
                org.bulk_load,
                backfill_figures(run_log.runs.values()),
            )
        except KafkaException as error:
            raise click.ClickException(f"Kafka does not answer: {error}") from error

    def _stages(self, before: Sample, now: Sample) -> list[StageFigures]:
        seconds = max(0.001, now.at - before.at)
        names = self._names
        workers = self._workers("dedupe", "reader", "sink")
        arrived = sum(now.events_end.values()) - sum(before.events_end.values())
        return [
            StageFigures("bridge", rate=max(0, arrived) / seconds),
            self._stage("dedupe", names.events, before.dedupe, now.dedupe, seconds, workers),
            self._stage("reader", names.refetch, before.refetch, now.refetch, seconds, workers),
            self._stage("sink", names.changes, before.sink, now.sink, seconds, workers),
        ]

    def _stage(
        self,
        stage: str,
        topic: Topic,
        before: Mapping[int, tuple[int, int]],
        now: Mapping[int, tuple[int, int]],
        seconds: float,
        workers: Mapping[str, int | None],
    ) -> StageFigures:
        done = sum(offset - before.get(each, (offset, 0))[0] for each, (offset, _) in now.items())
        oldest_ms, appended_ms = self._oldest_unread(topic.name, now)
        retention_ms = self._retention_ms(topic) if appended_ms is not None else None
        expires_ms = None
        if appended_ms is not None and retention_ms is not None:
            expires_ms = appended_ms + retention_ms
        return StageFigures(
            stage,
            workers[stage],
            sum(records for _, records in now.values()),
            oldest_ms,
            expires_ms,
            max(0, done) / seconds,
        )

    def _oldest_unread(
        self, topic: str, lags: Mapping[int, tuple[int, int]]
    ) -> tuple[int | None, int | None]:
        """When the oldest unread record was received, and when the broker appended it."""
        received: list[int] = []
        appended: list[int] = []
        for partition, (offset, records) in lags.items():
            if not records:
                continue
            record = self._lags.peek(topic, partition, offset)
            if record is not None:
                received.append(
                    received_at(header(record.headers, "received_ms"), record.timestamp_ms)
                )
                appended.append(record.timestamp_ms)
        return min(received, default=None), min(appended, default=None)

    def _retention_ms(self, topic: Topic) -> int | None:
        """How long the topic keeps records; None where they do not expire by age."""
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        admin = AdminClient(self._admin_config)
        (future,) = admin.describe_configs([resource], request_timeout=ADMIN_SECONDS).values()
        config = future.result()
        if "delete" not in str(config["cleanup.policy"].value):
            return None
        retention = int(str(config[RETENTION].value))
        return None if retention < 0 else retention

    def _workers(self, *stages: str) -> dict[str, int | None]:
        admin = AdminClient(self._admin_config)
        by_group = {group(self._kafka, stage): stage for stage in stages}
        futures = admin.describe_consumer_groups(list(by_group), request_timeout=ADMIN_SECONDS)
        found: dict[str, int | None] = {}
        for name, future in futures.items():
            try:
                found[by_group[name]] = len(future.result().members)
            except KafkaException:
                found[by_group[name]] = None
        return found

    def _has_outcomes(self) -> bool:
        ends = self._lags.ends(self._names.outcomes.name, self._names.outcomes.partitions)
        return any(ends.values())

    def _outcomes(self, now_ms: int) -> OutcomeFigures:
        return outcome_figures(
            read_to_end(self._kafka, self._names.outcomes.name, last=OUTCOME_OFFSETS), now_ms
        )

    def _limits(self, storage: Usage | None) -> list[LimitUse]:
        if self._sink is None:
            return []
        if time.monotonic() - self._spent_read > SPENT_SECONDS:
            self._spent = read_spent(self._kafka, self._names, time.time())
            self._spent_read = time.monotonic()
        self._spent.move_to(time.time())
        changes = self._names.changes
        own_calls = OwnCalls(self._max_calls)
        notes = self._lags.notes(group(self._kafka, "sink"), changes.name, changes.partitions)
        for note in notes.values():
            own_calls.restore(note)
        return limit_uses(self._sink, self._spent, self._max_calls, own_calls.today, storage)

    def _letters(self) -> LetterFigures:
        records = topic_records(self._kafka, self._names.dead_letter.name)
        letters = scan(records, Selection(), self._names).in_order
        by_reason: dict[str, int] = {}
        for letter in letters:
            by_reason[letter.reason] = by_reason.get(letter.reason, 0) + 1
        return LetterFigures(
            by_reason, min((letter.last_failed_ms for letter in letters), default=None)
        )


def runs_at_work(run_log: RunLog) -> list[str]:
    """A line for each run at work."""
    return [
        f"{run_id} {run_line(run, totals(run_log.progress(run_id)), None)}"
        + _wave(run_id, run, run_log)
        for run_id, run in sorted(run_log.runs.items())
        if _is_at_work(run)
    ]


def backfill_figures(runs: Iterable[Run]) -> BackfillFigures:
    """Whether a backfill is at work, and when the last one ended."""
    backfills = [run for run in runs if run.kind is RunKind.BACKFILL and not run.dry_run]
    ends = [run.finished_at for run in backfills if run.finished_at is not None]
    return BackfillFigures(any(map(_is_at_work, backfills)), max(ends, default=0) * 1000 or None)


def _is_at_work(run: Run) -> bool:
    return run.state not in FINAL and run.state is not RunState.WAITING


def _wave(run_id: str, run: Run, run_log: RunLog) -> str:
    continued = run_log.continued.get(run_id, 0)
    if not waits_for_a_person(run, run_log.progress(run_id), continued):
        return ""
    return f", waits after a wave: {how_to_continue(run_id)}"
