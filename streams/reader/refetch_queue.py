"""Contacts that wait to be read again, each once: plain data, without a clock and without I/O."""

import heapq
from dataclasses import dataclass, field

from streams.events import number, received_at
from streams.kafka.offsets import OffsetTracker
from streams.kafka.records import KafkaRecord, header

# The longest wait that a request may ask for. After a conflict the wait is the page margin, about
# ten minutes; a request that asks for more comes from a wrong clock.
MAX_REQUESTED_WAIT_SECONDS = 3600


@dataclass(slots=True)
class RefetchRequest:
    """A contact to read again, for all records that ask for it. Times are epoch seconds."""

    key: bytes
    """The contact key."""
    reason: str
    not_before: int
    """The earliest moment for the reading, by the clock of Nylas."""
    received_ms: int
    """When the event that led to the request was received, in epoch milliseconds."""
    since: int
    """When this process first read a request for the contact."""
    due: int = 0
    """When to try the next time, by the clock of this machine."""
    offsets: list[int] = field(default_factory=list)
    """The offsets of the records that ask for it."""

    @property
    def grant(self) -> str:
        """The ID of the contact's grant."""
        return self.key.decode().partition("/")[0]


class RefetchQueue:
    """Requests by the time that they are due. Times are epoch seconds.

    One contact of a grant is read at a time. A contact that is asked for twice is read once.
    """

    def __init__(self) -> None:
        self.offsets = OffsetTracker()
        """Which offset of contacts.refetch may be committed."""
        self._requests: dict[bytes, RefetchRequest] = {}
        # Heaps of (due, key) by grant. A request whose due time changed leaves its old entry
        # behind; `take_due` skips it.
        self._by_grant: dict[str, list[tuple[int, bytes]]] = {}
        # A heap of (time, grant): when the next request of a grant is due. Only the entry with the
        # time in `_grant_due` counts; older ones are skipped.
        self._grants: list[tuple[int, str]] = []
        self._grant_due: dict[str, int] = {}
        # Grants of which a contact is being read.
        self._busy: set[str] = set()
        # Grants that are not to be asked before a moment.
        self._parked: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, record: KafkaRecord, now: int) -> bool:
        """Adds a record of contacts.refetch; False if its key is no contact key.

        The offset of such a record counts as finished. A contact that is asked for twice is read at
        the later of the two times, which answers both.
        """
        received_ms = received_at(header(record.headers, "received_ms"), record.timestamp_ms)
        self.offsets.take(record.offset, received_ms)
        key = record.key or b""
        if not _is_contact_key(key):
            self.offsets.finish(record.offset)
            return False
        not_before = min(
            number(header(record.headers, "not_before")) or 0, now + MAX_REQUESTED_WAIT_SECONDS
        )
        request = self._requests.get(key)
        if request is None:
            reason = (header(record.headers, "reason") or b"").decode(errors="replace")
            request = RefetchRequest(key, reason, not_before, received_ms, now)
            self._requests[key] = request
        if not_before >= request.not_before:
            request.not_before = not_before
            self._enqueue(request, max(not_before, request.due))
        request.offsets.append(record.offset)
        return True

    def take_due(self, now: int) -> RefetchRequest | None:
        """Takes out the next request that is due, or None.

        The other requests of its grant wait until it is finished or put back.
        """
        while self._grants and self._grants[0][0] <= now:
            grant_due, grant = heapq.heappop(self._grants)
            if self._grant_due.get(grant) != grant_due:
                continue
            del self._grant_due[grant]
            due, key = heapq.heappop(self._by_grant[grant])
            request = self._requests.get(key)
            if request is not None and request.due == due:
                self._parked.pop(grant, None)
                self._busy.add(grant)
                return self._requests.pop(key)
            self._enqueue_grant(grant)
        return None

    def put_back(self, request: RefetchRequest, due: int, *, park_grant: bool = False) -> None:
        """Puts back a request that could not be answered, to be tried again at `due`.

        Requests for the same contact that came meanwhile are merged with it. With `park_grant` the
        other contacts of the grant are not tried before `due` either.
        """
        if park_grant:
            self._parked[request.grant] = due
        newer = self._requests.get(request.key)
        if newer is not None:
            request.offsets.extend(newer.offsets)
            request.not_before = max(request.not_before, newer.not_before)
            due = max(due, newer.due)
        self._requests[request.key] = request
        self._busy.discard(request.grant)
        self._enqueue(request, due)

    def finish(self, request: RefetchRequest) -> None:
        """Marks a request as answered: what was published for it is acknowledged."""
        for offset in request.offsets:
            self.offsets.finish(offset)
        self._busy.discard(request.grant)
        self._enqueue_grant(request.grant)

    def _enqueue(self, request: RefetchRequest, due: int) -> None:
        request.due = due
        heapq.heappush(self._by_grant.setdefault(request.grant, []), (due, request.key))
        self._enqueue_grant(request.grant)

    def _enqueue_grant(self, grant: str) -> None:
        """Enqueues the next request of a grant, unless one of its contacts is being read."""
        requests = self._by_grant.get(grant)
        if not requests:
            self._by_grant.pop(grant, None)
        elif grant not in self._busy:
            due = max(requests[0][0], self._parked.get(grant, 0))
            if self._grant_due.get(grant) != due:
                self._grant_due[grant] = due
                heapq.heappush(self._grants, (due, grant))


def _is_contact_key(key: bytes) -> bool:
    try:
        grant, slash, contact = key.decode().partition("/")
    except UnicodeDecodeError:
        return False
    return bool(grant and slash and contact)
