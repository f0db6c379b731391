"""Reading single contacts again, as contacts.refetch asks: not before their time, each as a page of
one.
"""

import asyncio
import heapq
import time
from dataclasses import dataclass, field, replace

import structlog

from connectors.nylas.client import NylasClient, seconds_until_next
from connectors.nylas.contacts import get_contact
from connectors.nylas.errors import NotFound, Passing, Refused
from streams.events import PAGE_MARGIN, Origin, dead_letter_headers, now_ms, number, refetch_headers
from streams.kafka.offsets import OffsetTracker
from streams.kafka.records import KafkaRecord, header
from streams.metrics import ReaderMetrics
from streams.reader.grant_events import GrantTable
from streams.reader.records import Publish, absence_record, page_records
from streams.runtime.logs import reference
from streams.topics import Topics

log = structlog.get_logger()

AT_ONCE = (
    8  # contacts of different grants read side by side; one grant is asked one thing at a time
)
MAX_PENDING = 10_000  # contacts that wait for their time; more stay in Kafka. Some MB.
MAX_WAIT = 3600
"""Seconds. A conflict waits for the page margin, about ten minutes; what asks for more comes from a
clock that is wrong.
"""
LOOK_SECONDS = 0.2  # how often a worker looks for what has come due; times are whole seconds
AGAIN_SECONDS = 30  # after the client's own tries are used up
REFUSED_SECONDS = 600
"""After Nylas refused: the record goes to the end of the topic, so that the others' offsets can be
committed.
"""
HELD_SECONDS = 3600
"""For so long a contact that Nylas cannot serve holds the commit; then its record, too, goes to the
end of the topic. Retention would overtake a commit that one contact holds for days.
"""
REFUSED_FOR = 86_400
"""Seconds since the event was received. A key or a scope that was forgotten is put right within a
day; what is refused for longer is one contact's own fault, and a dead letter with its reason can be
asked for again.
"""


@dataclass(slots=True)
class Wanted:
    """A contact to read again, for every record that asks for it so far.

    `not_before` is what was asked for, in Nylas' time; `due` is when to try, and `since` when it
    was first asked for here, in ours.
    """

    key: bytes
    reason: str
    not_before: int
    received_ms: int
    since: int
    due: int = 0
    offsets: list[int] = field(default_factory=list)

    @property
    def grant(self) -> str:
        """The ID of its grant."""
        return self.key.decode().partition("/")[0]


class Pending:
    """The contacts that wait for their time, each once. Holds no clock and does no I/O; times are
    epoch seconds.
    """

    def __init__(self) -> None:
        self.offsets = OffsetTracker()
        self._wanted: dict[bytes, Wanted] = {}
        self._queues: dict[
            str, list[tuple[int, bytes]]
        ] = {}  # of each grant, soonest first; what was moved stays in, and is passed over
        self._turns: list[
            tuple[int, str]
        ] = []  # when a grant is next; only what `_turn` says counts
        self._turn: dict[str, int] = {}
        self._busy: set[str] = set()
        self._parked: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def take(self, record: KafkaRecord, now: int) -> bool:
        """A record of contacts.refetch. False when it asks for nothing that can be read; its offset
        is then finished.

        Asked for twice, a contact is read once, at the later of the two times: that reading answers
        both.
        """
        self.offsets.take(record.offset)
        key = record.key or b""
        if not _readable(key):
            self.offsets.finish(record.offset)
            return False
        not_before = min(number(header(record.headers, "not_before")) or 0, now + MAX_WAIT)
        wanted = self._wanted.get(key)
        if wanted is None:
            received_ms = number(header(record.headers, "received_ms"))
            if received_ms is None:
                received_ms = now * 1000
            reason = (header(record.headers, "reason") or b"").decode(errors="replace")
            wanted = self._wanted[key] = Wanted(key, reason, not_before, received_ms, now)
        if not_before >= wanted.not_before:
            wanted.not_before = not_before
            self._wait(wanted, max(not_before, wanted.due))
        wanted.offsets.append(record.offset)
        return True

    def due(self, now: int) -> Wanted | None:
        """Takes out the next contact whose time has come. Its grant's others wait until it is
        finished or put back.
        """
        while self._turns and self._turns[0][0] <= now:
            at, grant = heapq.heappop(self._turns)
            if self._turn.get(grant) != at:
                continue
            del self._turn[grant]
            due, key = heapq.heappop(self._queues[grant])
            wanted = self._wanted.get(key)
            if wanted is not None and wanted.due == due:
                self._parked.pop(grant, None)
                self._busy.add(grant)
                return self._wanted.pop(key)
            self._line_up(grant)
        return None

    def put_back(self, wanted: Wanted, due: int, *, parked: bool = False) -> None:
        """It could not be read yet, and is to be tried again when it is `due`. What has asked for
        it meanwhile joins it.

        `parked`: its grant's others would not be read earlier either.
        """
        if parked:
            self._parked[wanted.grant] = due
        other = self._wanted.get(wanted.key)
        if other is not None:
            wanted.offsets.extend(other.offsets)
            wanted.not_before = max(wanted.not_before, other.not_before)
            due = max(due, other.due)
        self._wanted[wanted.key] = wanted
        self._busy.discard(wanted.grant)
        self._wait(wanted, due)

    def _wait(self, wanted: Wanted, due: int) -> None:
        wanted.due = due
        heapq.heappush(self._queues.setdefault(wanted.grant, []), (due, wanted.key))
        self._line_up(wanted.grant)

    def _line_up(self, grant: str) -> None:
        """Says when the grant is next, unless one of its contacts is being read."""
        queue = self._queues.get(grant)
        if not queue:
            self._queues.pop(grant, None)
        elif grant not in self._busy:
            at = max(queue[0][0], self._parked.get(grant, 0))
            if self._turn.get(grant) != at:
                self._turn[grant] = at
                heapq.heappush(self._turns, (at, grant))

    def finish(self, wanted: Wanted) -> None:
        """Its event is acknowledged."""
        for offset in wanted.offsets:
            self.offsets.finish(offset)
        self._busy.discard(wanted.grant)
        self._line_up(wanted.grant)


def _readable(key: bytes) -> bool:
    try:
        grant, slash, contact = key.decode().partition("/")
    except UnicodeDecodeError:
        return False
    return bool(grant and slash and contact)


class Refetcher:
    """Serves `pending`, which its owner fills from the topic and whose offsets it commits."""

    def __init__(
        self,
        client: NylasClient,
        publish: Publish,
        topics: Topics,
        metrics: ReaderMetrics,
        book: GrantTable,
    ) -> None:
        self.pending = Pending()
        self._client, self._publish, self._topics, self._metrics = client, publish, topics, metrics
        self._book = book

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            pending = self.pending  # its owner may begin anew meanwhile
            wanted = pending.due(int(time.time()))
            if wanted is None:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._read(pending, wanted)

    async def _read(self, pending: Pending, wanted: Wanted) -> None:
        grant, _, contact_id = wanted.key.decode().partition("/")
        now = int(time.time())
        try:
            reading = await get_contact(self._client, grant, contact_id)
        except NotFound as gone:
            if (
                gone.of_grant
            ):  # what becomes of its contacts is decided when the grant's deletion is known
                self._metrics.refetched.labels("grant_gone").inc()
                pending.finish(wanted)
                return
            if gone.served_at < wanted.not_before:
                pending.put_back(wanted, now + wanted.not_before - gone.served_at)
                return
            version = gone.served_at - PAGE_MARGIN
            event_id = f"refetch/{gone.served_at}/{contact_id}"
            await self._publish(
                [absence_record(self._topics, grant, contact_id, Origin.REFETCH, event_id, version)]
            )
            self._metrics.refetched.labels("gone").inc()
        except Passing as fault:
            log.info("refetch waits", contact=reference(wanted.key), fault=str(fault))
            due = int(time.time() + seconds_until_next(fault, AGAIN_SECONDS)) + 1
            if now - wanted.since < HELD_SECONDS:
                pending.put_back(wanted, due, parked=True)
                return
            await self._publish([self._once_more(wanted, due)])
            self._metrics.refetched.labels("held_too_long").inc()
        except Refused as fault:
            await self._refused(wanted, fault)
        else:
            # Nylas' clock may be behind ours, and only Nylas' clock orders events.
            if reading.served_at < wanted.not_before:
                pending.put_back(wanted, now + wanted.not_before - reading.served_at)
                return
            request = reading.request_id or f"refetch/{now_ms()}"
            contact = {**reading.contact, "id": contact_id}
            await self._publish(
                page_records(
                    self._topics, grant, Origin.REFETCH, request, reading.served_at, [contact]
                )
            )
            self._metrics.contacts.labels("refetch").inc()
            self._metrics.refetched.labels("found").inc()
        pending.finish(wanted)

    async def _refused(self, wanted: Wanted, fault: Refused) -> None:
        """Drops a contact whose grant has to sign in again, because that compares all of them; asks
        for others again, for a while.
        """
        now = int(time.time())
        record = self._once_more(wanted, now + REFUSED_SECONDS)
        if self._book.status.get(wanted.grant) == "expired":
            outcome = "expired"
        elif now - wanted.received_ms // 1000 > REFUSED_FOR:
            outcome = "dead_lettered"
            headers = dead_letter_headers(record, "reader", "refused", str(fault))
            await self._publish(
                [replace(record, topic=self._topics.dead_letter.name, headers=headers)]
            )
        else:
            outcome = "refused"
            await self._publish([record])
        log.warning(
            "refetch refused", contact=reference(wanted.key), status=fault.status, outcome=outcome
        )
        self._metrics.refetched.labels(outcome).inc()

    def _once_more(self, wanted: Wanted, due: int) -> KafkaRecord:
        """The same question at the end of the topic."""
        headers = refetch_headers(wanted.reason, max(due, wanted.not_before), wanted.received_ms)
        return KafkaRecord(
            self._topics.refetch.name, wanted.key, b"", headers, 0, wanted.offsets[0]
        )
