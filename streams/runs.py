"""What reader.runs holds: the requests to read address books, how far each grant has come, and the plain decisions over both.

The topic is compacted, in one partition. Key `run_id` holds the request and its state, key `run_id/grant_id` a grant's progress; both
values are JSON. Whoever holds the partition works on them, and finds there where its predecessor stopped. Key `cancel/run_id` asks for the
run's end: a key of its own, because the run's belongs to the reader. One more key is the bridges' heartbeat: when one of them could last
take notifications.
"""

import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson

from connectors.nylas.contacts import SOURCES
from streams.events import Record, UnreadableRecord, now_ms
from streams.topics import Topics

DAY = 86_400
KEPT_FOR = 14 * DAY
"""Seconds that a finished run stays in the topic, for `contactstream runs` to show and for the next run's expectations."""

HEARTBEAT_KEY = b"bridge/heartbeat"
"""Every bridge writes to it, and the newest counts. A run's ID begins with a year, so it is nobody's progress."""

NYLAS_RETRY_SECONDS = 600.0
"""The last of Nylas' three attempts comes 10 to 20 minutes after the first: of a longer silence it may have missed the end."""


class RunKind(StrEnum):
    """Why address books are read."""

    BACKFILL = "backfill"
    RECONCILE = "reconcile"


class State(StrEnum):
    """How far a run, or a grant in a run, has come. `skipped` is a grant that cannot be read, `merged` a run that another does too,
    `cancelled` what a person ended."""

    WAITING = "waiting"
    RUNNING = "running"
    SCANNED = "scanned"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    MERGED = "merged"
    CANCELLED = "cancelled"


FINAL = frozenset({State.DONE, State.FAILED, State.SKIPPED, State.MERGED, State.CANCELLED})

CANCEL = "cancel"  # no run's ID: those start with their time


@dataclass(frozen=True, slots=True)
class Run:
    """A request to read address books, and its state. Times are epoch seconds.

    `grants` are IDs or addresses, None means all; `sources` empty means those of the settings. `max_delete_share` replaces the
    guard of the settings for this run, `not_before` lets it wait.
    """

    kind: RunKind
    grants: tuple[str, ...] | None
    requested_at: int
    by: str
    sources: tuple[str, ...] = ()
    dry_run: bool = False
    max_delete_share: float | None = None
    state: State = State.WAITING
    error: str = ""
    finished_at: int | None = None
    not_before: int = 0

    @property
    def whole(self) -> bool:
        """Whether it compares every address book, as the schedule does."""
        return self.kind is RunKind.RECONCILE and self.grants is None and not self.dry_run


@dataclass(frozen=True, slots=True)
class Progress:
    """A grant in a run. `cursor` is that of the page to read next, once all before it are acknowledged by Kafka.

    `scan_start` is the `Date` of the first page (epoch seconds); `expected` is what the last run found, None where it is not known;
    `incomplete` says which sources Nylas refused, while the others were read.
    """

    state: State
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
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind.value}-{secrets.token_hex(3)}"


def encode(value: Run | Progress) -> bytes:
    """The value of a record of reader.runs."""
    return orjson.dumps(asdict(value))


def run_key(run_id: str) -> bytes:
    """The key of a run."""
    return run_id.encode()


def progress_key(run_id: str, grant: str) -> bytes:
    """The key of a grant in a run."""
    return f"{run_id}/{grant}".encode()


def run_record(topics: Topics, run_id: str, run: Run) -> Record:
    """A run as a record of reader.runs. Whoever wants address books read writes one (the command, the schedule, the bridge)."""
    return Record(topics.runs.name, run_key(run_id), encode(run), [])


def progress_record(topics: Topics, run_id: str, grant: str, progress: Progress) -> Record:
    """A grant's progress as a record of reader.runs."""
    return Record(topics.runs.name, progress_key(run_id, grant), encode(progress), [])


def heartbeat_record(topics: Topics, at_ms: int) -> Record:
    """A bridge's word that it can take notifications (epoch milliseconds). That it is acknowledged says the rest: the broker takes them."""
    return Record(topics.runs.name, HEARTBEAT_KEY, orjson.dumps({"heartbeat_ms": at_ms}), [])


def parse_heartbeat(value: bytes) -> int:
    """Epoch milliseconds from a heartbeat's value; unknown fields are ignored. Raises UnreadableRecord."""
    at_ms = _object(value).get("heartbeat_ms")
    if not isinstance(at_ms, int) or isinstance(at_ms, bool) or at_ms <= 0:
        raise UnreadableRecord("not_a_heartbeat")
    return at_ms


def cancel_key(run_id: str) -> bytes:
    """The key of the wish that a run ends."""
    return f"{CANCEL}/{run_id}".encode()


def cancel_record(topics: Topics, run_id: str) -> Record:
    """The wish that a run ends, as a record of reader.runs."""
    return Record(topics.runs.name, cancel_key(run_id), b"{}", [])


def parse_run(value: bytes) -> Run:
    """A run from a record's value; unknown fields are ignored. Raises UnreadableRecord."""
    data = _object(value)
    grants = data.get("grants")
    try:
        return Run(
            kind=RunKind(str(data.get("kind"))),
            grants=None if grants is None else tuple(str(grant) for grant in grants),
            requested_at=int(data.get("requested_at") or 0),
            by=str(data.get("by") or ""),
            sources=tuple(str(source) for source in data.get("sources") or ()),
            dry_run=data.get("dry_run") is True,
            max_delete_share=None if data.get("max_delete_share") is None else float(data["max_delete_share"]),
            state=State(data.get("state") or State.WAITING),
            error=str(data.get("error") or ""),
            finished_at=data.get("finished_at"),
            not_before=int(data.get("not_before") or 0),
        )
    except (TypeError, ValueError) as error:
        raise UnreadableRecord("not_a_run", str(error)) from error


def parse_progress(value: bytes) -> Progress:
    """A grant's progress from a record's value; unknown fields are ignored. Raises UnreadableRecord."""
    data = _object(value)
    known = {name: data[name] for name in Progress.__slots__ if name in data}
    try:
        return Progress(**(known | {"state": State(str(data.get("state")))}))
    except (TypeError, ValueError) as error:
        raise UnreadableRecord("not_a_progress", str(error)) from error


def _object(value: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableRecord("not_json", str(error)) from error
    if not isinstance(data, dict):
        raise UnreadableRecord("not_json", "no object")
    return data


def events_lost(previous_ms: int | None, this_ms: int, silence: float = NYLAS_RETRY_SECONDS) -> bool:
    """Whether events may have been lost between two heartbeats (epoch milliseconds): `silence`, in seconds, is what Nylas bridges.

    A heartbeat that goes back, by another bridge's clock, is no gap; nor is the first one.
    """
    return previous_ms is not None and this_ms - previous_ms > silence * 1000


@dataclass(slots=True)
class Heartbeats:
    """The bridges' heartbeats as read so far, in epoch milliseconds: the newest, and the one that ended the last gap."""

    newest_ms: int | None = None
    lost_ms: int | None = None

    def hear(self, at_ms: int, now_ms: int, silence: float = NYLAS_RETRY_SECONDS) -> None:
        """The next heartbeat. One from a future further than `silence` is passed over: believed, it would hide every gap until then."""
        if at_ms - now_ms > silence * 1000:
            return
        if events_lost(self.newest_ms, at_ms, silence):
            self.lost_ms = at_ms
        self.newest_ms = max(at_ms, self.newest_ms or 0)


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
            if found and found.state is State.DONE:
                return found.contacts
        return None

    def finished_before(self, moment: float) -> list[str]:
        """Runs that are over since before `moment` (epoch seconds); never the latest of everything, from which the schedule counts."""
        wholes = ((run.requested_at, run_id) for run_id, run in self.runs.items() if run.whole)
        _, latest = max(wholes, default=(0, ""))
        return [
            run_id
            for run_id, run in self.runs.items()
            if run.state in FINAL and (run.finished_at or run.requested_at) < moment and run_id != latest
        ]


@dataclass(frozen=True, slots=True)
class Starts:
    """What to do with the runs that wait: start these, and call those done by another."""

    start: tuple[str, ...] = ()
    merged: Mapping[str, str] = field(default_factory=dict)


def next_runs(runs: Mapping[str, Run], active: Collection[str]) -> Starts:
    """Which unfinished runs to start now.

    Reconciles of every grant run one after the other, since a second one at the same time would only ask Nylas twice; those that
    queued up meanwhile with the same wishes are one: the newest. Everything else starts at once and shares the calls.
    """
    start: list[str] = []
    merged: dict[str, str] = {}
    wholes: list[str] = []
    busy = False
    for run_id in sorted(runs, key=lambda name: (runs[name].requested_at, name)):
        run = runs[run_id]
        if run.state in FINAL:
            continue
        if run_id in active:
            busy = busy or run.whole
        elif not run.whole:
            start.append(run_id)
        elif run.state is State.RUNNING and not busy:  # a predecessor was in the middle of it
            start.append(run_id)
            busy = True
        else:
            wholes.append(run_id)
    if wholes and not busy:
        same = [name for name in wholes if _wishes(runs[name]) == _wishes(runs[wholes[0]])]
        start.append(same[-1])
        merged = dict.fromkeys(same[:-1], same[-1])
    return Starts(tuple(start), merged)


def _wishes(run: Run) -> tuple[tuple[str, ...], float | None]:
    return run.sources, run.max_delete_share


def reconcile_due(runs: Iterable[Run], now: float, every: float, since: float) -> bool:
    """Whether the schedule asks for a reconcile of every grant: the last one was asked for `every` seconds ago, by whomever.

    `since` (epoch seconds) stands for the last one where there was none. 0 switches the schedule off.
    """
    if every <= 0:
        return False
    return now - max((run.requested_at for run in runs if run.whole), default=since) >= every


def reconcile_owed(runs: Iterable[Run], lost_ms: int) -> bool:
    """Whether no reconcile of everything makes up for the events lost until `lost_ms` (epoch milliseconds).

    One makes up for them that was asked for since, or that has yet to begin.
    """
    return not any(
        run.kind is RunKind.RECONCILE
        and run.grants is None
        and not run.dry_run
        and not run.sources
        and (run.state is State.WAITING or run.requested_at * 1000 >= lost_ms)
        for run in runs
    )


def finished(run: Run, grants: Mapping[str, Progress], now: float) -> Run:
    """The run, over: failed when one of its grants is. One of which a source was refused is done, and named."""
    failed = sorted(grant for grant, progress in grants.items() if progress.state is State.FAILED)
    incomplete = sum(1 for progress in grants.values() if progress.incomplete and progress.state is State.DONE)
    found = ((len(failed), "failed"), (incomplete, "read without a source that Nylas refused"))
    error = ", ".join(f"{count} of {len(grants)} grants {what}" for count, what in found if count)
    return replace(run, state=State.FAILED if failed else State.DONE, error=error, finished_at=int(now))


def cancelled(run: Run, grants: Mapping[str, Progress], now: float) -> tuple[Run, dict[str, Progress]]:
    """The run, ended by a person, and its grants: those that were not over are cancelled."""
    over = {
        grant: progress
        if progress.state in FINAL
        else replace(progress, state=State.CANCELLED, updated_at=int(now), error="")
        for grant, progress in grants.items()
    }
    left = sum(progress.state is State.CANCELLED for progress in over.values())
    error = f"cancelled; {left} of {len(over)} grants were not finished" if over else "cancelled before it started"
    return replace(run, state=State.CANCELLED, error=error, finished_at=int(now)), over


def check_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """The sources, each once. Raises ValueError for one that Nylas does not have."""
    chosen = tuple(dict.fromkeys(sources))
    unknown = [source for source in chosen if source not in SOURCES]
    if unknown:
        raise ValueError(f"Nylas has no contact source {unknown[0]!r}; it has {', '.join(SOURCES)}")
    return chosen
