"""Reading single contacts again, as contacts.refetch asks: not before their time, each as a page of one."""

import asyncio
import heapq
import time
from dataclasses import dataclass, field

import structlog

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import get_contact
from connectors.nylas.errors import NotFound, Passing, Refused
from streams.events import PAGE_MARGIN, Origin, Record, header, now_ms, number, refetch_headers
from streams.logs import reference
from streams.metrics import ReaderMetrics
from streams.offsets import OffsetTracker
from streams.scan import Publish, absence_record, page_records
from streams.topics import Topics

log = structlog.get_logger()

AT_ONCE = 8  # contacts of different grants read side by side; one grant is asked one thing at a time anyway
MAX_PENDING = 10_000  # contacts that wait for their time; more stay in Kafka. Some MB.
MAX_WAIT = 3600
"""Seconds. A conflict waits for the page margin, about ten minutes; what asks for more comes from a clock that is wrong."""
AGAIN_SECONDS = 30  # after the client's own tries are used up
REFUSED_SECONDS = 600
"""A grant that has to sign in again: its record goes to the end of the topic, so that the others' offsets can be committed."""


@dataclass(slots=True)
class Wanted:
    """A contact to read again, for every record that asks for it so far.

    `not_before` is what was asked for, in Nylas' time; `due` is when to try, in ours. They differ after a try in vain.
    """

    key: bytes
    reason: str
    not_before: int
    received_ms: int
    due: int = 0
    offsets: list[int] = field(default_factory=list)


class Pending:
    """The contacts that wait for their time, each once. Holds no clock and does no I/O; times are epoch seconds."""

    def __init__(self) -> None:
        self.offsets = OffsetTracker()
        self._wanted: dict[bytes, Wanted] = {}
        self._heap: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._wanted)

    def take(self, record: Record, now: int) -> bool:
        """A record of contacts.refetch. False when it asks for nothing that can be read; its offset is then finished.

        Asked for twice, a contact is read once, at the later of the two times: that reading answers both.
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
            wanted = self._wanted[key] = Wanted(key, reason, not_before, received_ms)
        if not_before >= wanted.not_before:
            wanted.not_before = not_before
            self._wait(wanted, max(not_before, wanted.due))
        wanted.offsets.append(record.offset)
        return True

    def due(self, now: int) -> Wanted | None:
        """Takes out the next contact whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            wanted = self._wanted.get(key)
            if wanted is not None and wanted.due == due:
                return self._wanted.pop(key)
        return None

    def put_back(self, wanted: Wanted, due: int) -> None:
        """It could not be read yet, and is to be tried again when it is `due`. What has asked for it meanwhile joins it."""
        other = self._wanted.get(wanted.key)
        if other is not None:
            wanted.offsets.extend(other.offsets)
            wanted.not_before = max(wanted.not_before, other.not_before)
            due = max(due, other.due)
        self._wanted[wanted.key] = wanted
        self._wait(wanted, due)

    def _wait(self, wanted: Wanted, due: int) -> None:
        wanted.due = due
        heapq.heappush(self._heap, (due, wanted.key))

    def finish(self, wanted: Wanted) -> None:
        """Its event is acknowledged."""
        for offset in wanted.offsets:
            self.offsets.finish(offset)


def _readable(key: bytes) -> bool:
    try:
        grant, slash, contact = key.decode().partition("/")
    except UnicodeDecodeError:
        return False
    return bool(grant and slash and contact)


class Refetcher:
    """Serves `pending`, which its owner fills from the topic and whose offsets it commits."""

    def __init__(self, client: NylasClient, publish: Publish, topics: Topics, metrics: ReaderMetrics) -> None:
        self.pending = Pending()
        self._client, self._publish, self._topics, self._metrics = client, publish, topics, metrics

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            wanted = self.pending.due(int(time.time()))
            if wanted is None:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._read(wanted)

    async def _read(self, wanted: Wanted) -> None:
        grant, _, contact_id = wanted.key.decode().partition("/")
        now = int(time.time())
        try:
            reading = await get_contact(self._client, grant, contact_id)
        except NotFound as gone:
            if gone.of_grant:  # what becomes of its contacts is decided when the grant's deletion is known
                self._metrics.refetched.labels("grant_gone").inc()
                self.pending.finish(wanted)
                return
            if gone.served_at < wanted.not_before:
                self.pending.put_back(wanted, now + wanted.not_before - gone.served_at)
                return
            version = gone.served_at - PAGE_MARGIN
            event_id = f"refetch/{gone.served_at}/{contact_id}"
            await self._publish([absence_record(self._topics, grant, contact_id, Origin.REFETCH, event_id, version)])
            self._metrics.refetched.labels("gone").inc()
        except Passing as fault:
            log.info("refetch waits", contact=reference(wanted.key), fault=str(fault))
            self.pending.put_back(wanted, now + AGAIN_SECONDS)
            return
        except Refused as fault:
            log.warning("refetch refused, tried again later", contact=reference(wanted.key), status=fault.status)
            self._metrics.refetched.labels("refused").inc()
            headers = refetch_headers(wanted.reason, now + REFUSED_SECONDS, wanted.received_ms)
            await self._publish([Record(self._topics.refetch.name, wanted.key, b"", headers)])
        else:
            if (
                reading.served_at < wanted.not_before
            ):  # Nylas' clock is behind ours, and only Nylas' clock orders events
                self.pending.put_back(wanted, now + wanted.not_before - reading.served_at)
                return
            request = reading.request_id or f"refetch/{now_ms()}"
            contact = {**reading.contact, "id": contact_id}
            await self._publish(
                page_records(self._topics, grant, Origin.REFETCH, request, reading.served_at, [contact])
            )
            self._metrics.contacts.labels("refetch").inc()
            self._metrics.refetched.labels("found").inc()
        self.pending.finish(wanted)


LOOK_SECONDS = 0.2  # how often a worker looks for what has come due; times are whole seconds
