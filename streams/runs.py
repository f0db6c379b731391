"""What reader.runs holds: the requests to read address books, how far each grant has come, and the
plain decisions over both.

The topic is compacted, in one partition. Key `run_id` holds the request and its state, key
`run_id/grant_id` a grant's progress; both values are JSON. Whoever holds the partition works on
them, and finds there where its predecessor stopped. Key `cancel/run_id` asks for the run's end: a
key of its own, because the run's belongs to the reader. One more key is the bridges' heartbeat:
when one of them could last take notifications.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

import orjson

from connectors.nylas.contacts import SOURCES
from streams.events import UnreadableRecord, now_ms, parse_object
from streams.heartbeats import HEARTBEAT_KEY, Heartbeats, parse_heartbeat
from streams.kafka.records import KafkaRecord
from streams.topics import Topics

DAY = 86_400
KEPT_FOR = 14 * DAY
"""Seconds that a finished run stays in the topic, for `contactstream runs` to show and for the next
run's expectations.
"""


class RunKind(StrEnum):
    """Why address books are read."""

    BACKFILL = "backfill"
    RECONCILE = "reconcile"


class RunState(StrEnum):
    """How far a run, or a grant in a run, has come. `skipped` is a grant that cannot be read,
    `merged` a run that another does too, `cancelled` what a person ended.
    """

    WAITING = "waiting"
    RUNNING = "running"
    SCANNED = "scanned"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    MERGED = "merged"
    CANCELLED = "cancelled"


FINAL = frozenset(
    {RunState.DONE, RunState.FAILED, RunState.SKIPPED, RunState.MERGED, RunState.CANCELLED}
)

CANCEL = "cancel"  # no run's ID: those start with their time


@dataclass(frozen=True, slots=True)
class Run:
    """A request to read address books, and its state. Times are epoch seconds.

    `grants` are IDs or addresses, None means all; `sources` empty means those of the settings.
    `max_delete_share` replaces the guard of the settings for this run, `not_before` lets it wait.
    """

    kind: RunKind
    grants: tuple[str, ...] | None
    requested_at: int
    by: str
    sources: tuple[str, ...] = ()
    dry_run: bool = False
    max_delete_share: float | None = None
    state: RunState = RunState.WAITING
    error: str = ""
    finished_at: int | None = None
    not_before: int = 0

    @property
    def whole(self) -> bool:
        """Whether it compares every address book, as the schedule does."""
        return self.kind is RunKind.RECONCILE and self.grants is None and not self.dry_run


@dataclass(frozen=True, slots=True)
class Progress:
    """A grant in a run. `cursor` is that of the page to read next, once all before it are
    acknowledged by Kafka.

    `scan_start` is the `Date` of the first page (epoch seconds); `expected` is what the last run
    found, None where it is not known; `incomplete` says which sources Nylas refused, while the
    others were read.
    """

    state: RunState
    source: str = ""
    cursor: str | None = None
    pages: int = 0
    contacts: int = 0
    expected: int | None = None
    scan_start: int | None = None
    deleted: int = 0
    offered: int = 0
    started_at: int = 0
    updated_at: int = 0
    error: str = ""
    incomplete: str = ""


def new_run_id(kind: RunKind, now: float) -> str:
    """Sorts by time and is readable in a log: `20261124T140000Z-backfill-1f2e3d`."""
    return (
        f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind.value}-{secrets.token_hex(3)}"
    )


def encode(value: Run | Progress) -> bytes:
    """The value of a record of reader.runs."""
    return orjson.dumps(asdict(value))


def run_key(run_id: str) -> bytes:
    """The key of a run."""
    return run_id.encode()


def progress_key(run_id: str, grant: str) -> bytes:
    """The key of a grant in a run."""
    return f"{run_id}/{grant}".encode()


def run_record(topics: Topics, run_id: str, run: Run) -> KafkaRecord:
    """A run as a record of reader.runs. Whoever wants address books read writes one (the command,
    the schedule, the bridge).
    """
    return KafkaRecord(topics.runs.name, run_key(run_id), encode(run), [])


def progress_record(topics: Topics, run_id: str, grant: str, progress: Progress) -> KafkaRecord:
    """A grant's progress as a record of reader.runs."""
    return KafkaRecord(topics.runs.name, progress_key(run_id, grant), encode(progress), [])


def cancel_key(run_id: str) -> bytes:
    """The key of the wish that a run ends."""
    return f"{CANCEL}/{run_id}".encode()


def cancel_record(topics: Topics, run_id: str) -> KafkaRecord:
    """The wish that a run ends, as a record of reader.runs."""
    return KafkaRecord(topics.runs.name, cancel_key(run_id), b"{}", [])


def parse_run(value: bytes) -> Run:
    """A run from a record's value; unknown fields are ignored. Raises UnreadableRecord."""
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
        )
    except (TypeError, ValueError) as error:
        raise UnreadableRecord("not_a_run", str(error)) from error


def parse_progress(value: bytes) -> Progress:
    """A grant's progress from a record's value; unknown fields are ignored. Raises
    UnreadableRecord.
    """
    data = parse_object(value)
    known = {name: data[name] for name in Progress.__slots__ if name in data}
    try:
        return Progress(**(known | {"state": RunState(str(data.get("state")))}))
    except (TypeError, ValueError) as error:
        raise UnreadableRecord("not_a_progress", str(error)) from error


@dataclass(slots=True)
class RunLog:
    """reader.runs as read so far."""

    runs: dict[str, Run] = field(default_factory=dict)
    grants: dict[str, dict[str, Progress]] = field(default_factory=dict)
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    cancelled: set[str] = field(default_factory=set)
    """Runs that somebody asked to end."""

    def apply(self, key: bytes, value: bytes | None) -> None:
        """A record of the topic, in order. Raises UnreadableRecord."""
        if key == HEARTBEAT_KEY:
            if value is not None:
                self.heartbeats.hear(parse_heartbeat(value), now_ms())
            return
        run_id, slash, grant = key.decode(errors="replace").partition("/")
        if run_id == CANCEL:
            (self.cancelled.discard if value is None else self.cancelled.add)(grant)
        elif value is None:
            if slash:
                self.grants.get(run_id, {}).pop(grant, None)
            else:
                self.runs.pop(run_id, None)
                self.grants.pop(run_id, None)
        elif slash:
            self.grants.setdefault(run_id, {})[grant] = parse_progress(value)
        else:
            self.runs[run_id] = parse_run(value)

    def progress(self, run_id: str) -> dict[str, Progress]:
        """The grants of a run."""
        return self.grants.setdefault(run_id, {})

    def expected(self, grant: str) -> int | None:
        """How many contacts the grant had when it was last read wholly."""
        for run_id in sorted(self.grants, reverse=True):
            found = self.grants[run_id].get(grant)
            if found and found.state is RunState.DONE:
                return found.contacts
        return None

    def finished_before(self, moment: float) -> list[str]:
        """Runs that are over since before `moment` (epoch seconds); never the latest of everything,
        from which the schedule counts.
        """
        wholes = ((run.requested_at, run_id) for run_id, run in self.runs.items() if run.whole)
        _, latest = max(wholes, default=(0, ""))
        return [
            run_id
            for run_id, run in self.runs.items()
            if run.state in FINAL
            and (run.finished_at or run.requested_at) < moment
            and run_id != latest
        ]


def finished(run: Run, grants: Mapping[str, Progress], now: float) -> Run:
    """The run, over: failed when one of its grants is. One of which a source was refused is done,
    and named.
    """
    failed = sorted(
        grant for grant, progress in grants.items() if progress.state is RunState.FAILED
    )
    incomplete = sum(
        1 for progress in grants.values() if progress.incomplete and progress.state is RunState.DONE
    )
    found = ((len(failed), "failed"), (incomplete, "read without a source that Nylas refused"))
    error = ", ".join(f"{count} of {len(grants)} grants {what}" for count, what in found if count)
    return replace(
        run, state=RunState.FAILED if failed else RunState.DONE, error=error, finished_at=int(now)
    )


def cancelled(
    run: Run, grants: Mapping[str, Progress], now: float
) -> tuple[Run, dict[str, Progress]]:
    """The run, ended by a person, and its grants: those that were not over are cancelled."""
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
    """The sources, each once. Raises ValueError for one that Nylas does not have."""
    chosen = tuple(dict.fromkeys(sources))
    unknown = [source for source in chosen if source not in SOURCES]
    if unknown:
        raise ValueError(f"Nylas has no contact source {unknown[0]!r}; it has {', '.join(SOURCES)}")
    return chosen
