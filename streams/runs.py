"""The record formats of reader.runs, and the state of runs as plain data.

A run is a request to read address books, a backfill or a reconcile, or to replay a topic. The
command, the schedule and the bridge write runs, the active reader carries them out. The topic is
compacted and has one partition. The values are JSON.

| key | value |
|---|---|
| `run_id` | the run and its state; after the request, only the active reader writes it |
| `run_id/grant_id` | the progress of a grant in the run; a new active reader continues there |
| `run_id/partition-N` | the progress of a partition in a replay |
| `cancel/run_id` | a request to cancel the run; the key `run_id` belongs to the reader |
| `continue/run_id` | how many waves more than the first a person asked for; see streams/waves.py |
| `bridge/heartbeat` | the newest heartbeat of the bridges; see streams/heartbeats.py |
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import orjson

from connectors.nylas.contacts import SOURCES
from streams.events import UnreadableRecord, now_ms, parse_object
from streams.heartbeats import HEARTBEAT_KEY, Heartbeats, parse_heartbeat
from streams.kafka.records import KafkaRecord
from streams.selection import Selection, encode_selection, parse_selection
from streams.topics import Topics

# How long a finished run stays in the topic. `contactstream runs` shows it, and the next run of a
# grant takes from it how many contacts to expect.
FINISHED_RUN_KEPT_SECONDS = 14 * 86_400

# Stands before the slash of the key that asks to cancel a run. No run has this ID, because the ID
# of a run begins with a year.
CANCEL = "cancel"

# The same for the key that continues a run in waves.
CONTINUE = "continue"


class RunKind(StrEnum):
    """A backfill publishes whole address books. A reconcile also finds what was deleted.

    A replay publishes records of a topic again, without asking Nylas.
    """

    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    REPLAY = "replay"


class ReplaySource(StrEnum):
    """The topic whose records a replay publishes again."""

    EVENTS = "events"
    """What Nylas said: contacts.events."""
    CHANGES = "changes"
    """The newest state of each contact: contacts.changes."""


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """Another deployment in the same cluster, whose contacts.events a replay fills."""

    prefix: str
    """Its KAFKA_TOPIC_PREFIX."""
    partitions: int
    """Of its contacts.events."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay publishes again."""

    source: ReplaySource
    selection: Selection
    ends: tuple[int, ...]
    """The offset of each partition of the source at which the replay ends: that of its preview."""
    rate: float | None = None
    """Records a second at most; None for no bound but the lag of dedupe and the sink."""
    starts: tuple[int, ...] = ()
    """The offset of each partition before which nothing is selected; empty: read all of it."""
    expected: tuple[int, ...] = ()
    """Records of each partition that the preview has counted, for the progress."""
    restore: tuple[str, ...] = ()
    """Mapped fields that are written even over somebody else's value."""
    target: ReplayTarget | None = None
    """Where it publishes; None for this deployment."""


class RunState(StrEnum):
    """The state of a run, or of a grant in a run."""

    WAITING = "waiting"
    RUNNING = "running"
    SCANNED = "scanned"
    """A grant that was listed to its end; a reconcile has yet to compare it."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A grant that cannot be read, for instance because it expired."""
    MERGED = "merged"
    """A run that another run does as well."""
    CANCELLED = "cancelled"
    """Ended by a person before it was done."""


FINAL = frozenset(
    {RunState.DONE, RunState.FAILED, RunState.SKIPPED, RunState.MERGED, RunState.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class Run:
    """A request to read address books, and its state. Times are epoch seconds."""

    kind: RunKind
    grants: tuple[str, ...] | None
    """IDs or email addresses of the grants to read; None for all."""
    requested_at: int
    by: str
    """What asked for the run: `command`, `schedule`, `bridge`, `gap` (of a backfill), a topic, or
    the type of an event.
    """
    sources: tuple[str, ...] = ()
    """Contact sources of Nylas to read; empty for those of the settings."""
    dry_run: bool = False
    max_delete_share: float | None = None
    """Replaces the setting READER_MAX_DELETE_SHARE for this run."""
    state: RunState = RunState.WAITING
    error: str = ""
    finished_at: int | None = None
    not_before: int = 0
    """The run does not start before this moment."""
    replay: Replay | None = None
    """What a replay publishes; None for the other kinds."""
    wave: int = 0
    """Grants that are read before the run waits for a person; 0 for all at once."""

    @property
    def reconciles_everything(self) -> bool:
        """Whether it compares the address books of all grants, as the scheduled reconcile does."""
        return self.kind is RunKind.RECONCILE and self.grants is None and not self.dry_run


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a grant in a run. Times are epoch seconds."""

    state: RunState
    source: str = ""
    """The contact source that is being read."""
    cursor: str | None = None
    """The cursor of the next page. Kafka has acknowledged every page before it."""
    pages: int = 0
    contacts: int = 0
    expected: int | None = None
    """How many contacts the last run found; None if that is unknown."""
    scan_start: int | None = None
    """The `Date` of the first page."""
    deleted: int = 0
    offered: int = 0
    """Contacts offered to the sink again, because they had only filled another's record."""
    started_at: int = 0
    updated_at: int = 0
    error: str = ""
    incomplete: str = ""
    """Which sources Nylas refused, while the others were read."""
    listing: int = 1
    """Which listing of the grant this is: a backfill lists an address book of several pages again,
    to find what moved between its pages.
    """
    gap: str = ""
    """Why contacts may be missing although the grant was listed repeatedly."""


def new_run_id(kind: RunKind, now: float) -> str:
    """A new run ID such as `20261124T140000Z-backfill-1f2e3d`. IDs sort by their time."""
    return run_id_at(kind, now, secrets.token_hex(3))


def run_id_at(kind: RunKind, moment: float, suffix: str) -> str:
    """The ID of a run of `moment` (epoch seconds); `suffix` distinguishes runs of one second."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(moment))}-{kind.value}-{suffix}"


def encode(value: Run | Progress) -> bytes:
    """The value of a record of reader.runs."""
    data = asdict(value)
    if isinstance(value, Run) and value.replay is not None:
        data["replay"]["selection"] = encode_selection(value.replay.selection)
    return orjson.dumps(data)


def run_key(run_id: str) -> bytes:
    """The key of a run."""
    return run_id.encode()


def progress_key(run_id: str, grant: str) -> bytes:
    """The key of a grant in a run."""
    return f"{run_id}/{grant}".encode()


def run_record(topics: Topics, run_id: str, run: Run) -> KafkaRecord:
    """A run as a record of reader.runs; writing one is how to ask for a run."""
    return KafkaRecord(topics.runs.name, run_key(run_id), encode(run), [])


def partition_name(partition: int) -> str:
    """How the progress of a replay names a partition of its source."""
    return f"partition-{partition}"


def progress_record(topics: Topics, run_id: str, grant: str, progress: Progress) -> KafkaRecord:
    """A grant's progress as a record of reader.runs."""
    return KafkaRecord(topics.runs.name, progress_key(run_id, grant), encode(progress), [])


def cancel_key(run_id: str) -> bytes:
    """The key of the request to cancel a run."""
    return f"{CANCEL}/{run_id}".encode()


def cancel_record(topics: Topics, run_id: str) -> KafkaRecord:
    """The request to cancel a run, as a record of reader.runs."""
    return KafkaRecord(topics.runs.name, cancel_key(run_id), b"{}", [])


def continue_key(run_id: str) -> bytes:
    """The key that continues a run in waves."""
    return f"{CONTINUE}/{run_id}".encode()


def continue_record(topics: Topics, run_id: str, continued: int) -> KafkaRecord:
    """How often a person has continued a run, as a record of reader.runs."""
    value = orjson.dumps({"continued": continued})
    return KafkaRecord(topics.runs.name, continue_key(run_id), value, [])


def parse_run(value: bytes) -> Run:
    """Parses the value of a run's record. Unknown fields are ignored. Raises UnreadableRecord."""
    data = parse_object(value)
    grants = data.get("grants")
    try:
        return Run(
            kind=RunKind(str(data.get("kind"))),
            grants=None if grants is None else tuple(str(grant) for grant in grants),
            requested_at=int(data.get("requested_at") or 0),
            by=str(data.get("by") or ""),
            sources=tuple(str(source) for source in data.get("sources") or ()),
            dry_run=data.get("dry_run") is True,
            max_delete_share=None
            if data.get("max_delete_share") is None
            else float(data["max_delete_share"]),
            state=RunState(data.get("state") or RunState.WAITING),
            error=str(data.get("error") or ""),
            finished_at=data.get("finished_at"),
            not_before=int(data.get("not_before") or 0),
            replay=_parse_replay(data.get("replay")),
            wave=int(data.get("wave") or 0),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise UnreadableRecord("not_a_run", str(error)) from error


def _parse_replay(data: Any) -> Replay | None:
    if data is None:
        return None
    if unknown := data.keys() - {each.name for each in fields(Replay)}:
        # Leaving one out would publish something else, or elsewhere.
        raise ValueError(f"a replay of another version: {', '.join(sorted(unknown))}")
    rate, target = data["rate"], data.get("target")
    return Replay(
        ReplaySource(data["source"]),
        parse_selection(data["selection"]),
        tuple(int(end) for end in data["ends"]),
        None if rate is None else float(rate),
        tuple(int(start) for start in data.get("starts") or ()),
        tuple(int(count) for count in data.get("expected") or ()),
        tuple(str(name) for name in data.get("restore") or ()),
        None if target is None else ReplayTarget(str(target["prefix"]), int(target["partitions"])),
    )


def parse_progress(value: bytes) -> Progress:
    """Parses the value of a progress record. Unknown fields are ignored.

    Raises UnreadableRecord.
    """
    data = parse_object(value)
    known = {name: data[name] for name in Progress.__slots__ if name in data}
    try:
        return Progress(**(known | {"state": RunState(str(data.get("state")))}))
    except (TypeError, ValueError) as error:
        raise UnreadableRecord("not_a_progress", str(error)) from error


@dataclass(slots=True)
class RunLog:
    """The state of all runs: the records of reader.runs that were read so far."""

    runs: dict[str, Run] = field(default_factory=dict)
    grants: dict[str, dict[str, Progress]] = field(default_factory=dict)
    """Run ID to grant ID to progress."""
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    cancelled: set[str] = field(default_factory=set)
    """IDs of the runs that somebody asked to cancel."""
    continued: dict[str, int] = field(default_factory=dict)
    """By the ID of a run in waves, how often a person continued it."""
    _contacts: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Grant ID to the ID of the last run that read it to the end, and how many contacts it had."""

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Takes the next record of the topic in. Raises UnreadableRecord."""
        if key == HEARTBEAT_KEY:
            if value is not None:
                self.heartbeats.apply(parse_heartbeat(value), now_ms())
            return
        run_id, slash, grant = key.decode(errors="replace").partition("/")
        if run_id == CANCEL:
            cancelled_run = grant
            (self.cancelled.discard if value is None else self.cancelled.add)(cancelled_run)
        elif run_id == CONTINUE:
            self._apply_continue(grant, value)
        elif value is None:
            if slash:
                self.grants.get(run_id, {}).pop(grant, None)
                if self._contacts.get(grant, ("", 0))[0] == run_id:
                    del self._contacts[grant]
            else:
                self.runs.pop(run_id, None)
                self.grants.pop(run_id, None)
        elif slash:
            progress = parse_progress(value)
            self.grants.setdefault(run_id, {})[grant] = progress
            if progress.state is RunState.DONE and run_id >= self._contacts.get(grant, ("", 0))[0]:
                self._contacts[grant] = run_id, progress.contacts
        else:
            self.runs[run_id] = parse_run(value)

    def _apply_continue(self, run_id: str, value: bytes | None) -> None:
        if value is None:
            self.continued.pop(run_id, None)
            return
        try:
            self.continued[run_id] = int(parse_object(value)["continued"])
        except (TypeError, ValueError, LookupError) as error:
            raise UnreadableRecord("not_a_continue", repr(error)) from error

    def progress(self, run_id: str) -> dict[str, Progress]:
        """The progress of each grant of a run, by grant ID."""
        return self.grants.setdefault(run_id, {})

    def expected(self, grant: str) -> int | None:
        """How many contacts the grant had when a run last read it to the end; None if unknown."""
        _, contacts = self._contacts.get(grant, ("", None))
        return contacts

    def finished_before(self, moment: float) -> list[str]:
        """IDs of the runs that finished before `moment` (epoch seconds).

        The latest reconcile of everything is left out: the schedule counts from it.
        """
        _, latest = max(
            (
                (run.requested_at, run_id)
                for run_id, run in self.runs.items()
                if run.reconciles_everything
            ),
            default=(0, ""),
        )
        return [
            run_id
            for run_id, run in self.runs.items()
            if run.state in FINAL
            and (run.finished_at or run.requested_at) < moment
            and run_id != latest
        ]


def finished(run: Run, grants: Mapping[str, Progress], now: float) -> Run:
    """The run in its final state: failed if one of its grants failed, else done.

    Its `error` also counts the grants that were read without a source that Nylas refused, and those
    of which contacts may be missing.
    """
    failed = sorted(
        grant for grant, progress in grants.items() if progress.state is RunState.FAILED
    )
    incomplete = sum(
        1 for progress in grants.values() if progress.incomplete and progress.state is RunState.DONE
    )
    gaps = sum(1 for progress in grants.values() if progress.gap)
    found = (
        (len(failed), "failed"),
        (incomplete, "read without a source that Nylas refused"),
        (gaps, "incomplete, of which a reconcile was requested"),
    )
    error = ", ".join(f"{count} of {len(grants)} grants {what}" for count, what in found if count)
    return replace(
        run, state=RunState.FAILED if failed else RunState.DONE, error=error, finished_at=int(now)
    )


def cancelled(
    run: Run, grants: Mapping[str, Progress], now: float
) -> tuple[Run, dict[str, Progress]]:
    """The run and its grants after a person ended it; unfinished grants become `cancelled`."""
    over = {
        grant: progress
        if progress.state in FINAL
        else replace(progress, state=RunState.CANCELLED, updated_at=int(now), error="")
        for grant, progress in grants.items()
    }
    left = sum(progress.state is RunState.CANCELLED for progress in over.values())
    error = (
        f"cancelled; {left} of {len(over)} grants were not finished"
        if over
        else "cancelled before it started"
    )
    return replace(run, state=RunState.CANCELLED, error=error, finished_at=int(now)), over


def check_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """The contact sources without repetitions. Raises ValueError for one that Nylas lacks."""
    chosen = tuple(dict.fromkeys(sources))
    unknown = [source for source in chosen if source not in SOURCES]
    if unknown:
        raise ValueError(f"Nylas has no contact source {unknown[0]!r}; it has {', '.join(SOURCES)}")
    return chosen
