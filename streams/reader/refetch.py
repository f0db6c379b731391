"""Reads single contacts again, as contacts.refetch asks, and publishes each as a page of one."""

import asyncio
import time
from collections.abc import Callable

import structlog

from connectors.nylas.client import NylasClient, seconds_until_next
from connectors.nylas.contacts import Reading, get_contact
from connectors.nylas.errors import NotFound, Passing, Refused
from connectors.nylas.grants import get_grant
from connectors.nylas.model import has_content
from streams.dead_letters import dead_letter
from streams.events import (
    PAGE_MARGIN_SECONDS,
    Origin,
    now_ms,
    refetch_headers,
)
from streams.grant_addresses import GrantAddress, GrantAddresses, address_record
from streams.kafka.assigned import AssignedPartition
from streams.kafka.polling import OffsetOutOfRange
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, Why
from streams.reader.commits import OffsetCommitter
from streams.reader.context import ReaderContext
from streams.reader.grant_events import GrantTable
from streams.reader.group_names import GroupNameKeeper
from streams.reader.records import deletion_record, page_records
from streams.reader.refetch_queue import RefetchQueue, RefetchRequest
from streams.reader.run_writer import RunWriter
from streams.runtime.current_work import doing
from streams.runtime.logs import place, reference
from streams.settings import KafkaSettings
from streams.topics import group

log = structlog.get_logger()

# A contact is asked for again so long after it changed; see streams/dedupe/versions.py.
SETTLED_SECONDS = PAGE_MARGIN_SECONDS + 1

# Contacts read at the same time, each of another grant: a grant is asked for one thing at a time.
CONCURRENT_REFETCHES = 8

# Requests held in memory, some MB. More of them stay in Kafka.
MAX_PENDING = 10_000

# Waited before the topic is read again while MAX_PENDING requests are pending.
FULL_QUEUE_SECONDS = 0.3

# Between two commits: a crash repeats no more than the requests answered in that time, beside those
# in flight.
COMMIT_SECONDS = 1.0

# How often an idle worker checks for a request that is due. Due times are whole seconds.
DUE_CHECK_SECONDS = 0.2

# Waited after Nylas did not answer although the client has repeated the call.
UNANSWERED_RETRY_SECONDS = 30

# How long a contact that Nylas cannot serve holds back the commit. Then its request is written
# again at the end of the topic: a commit held back for days would be overtaken by retention.
MAX_HELD_SECONDS = 3600

# Waited after Nylas refused a contact. Its request is written again at the end of the topic, so
# that the offsets of the others can be committed.
REFUSED_RETRY_SECONDS = 600

# A contact that is refused for so long since its event was received becomes a dead letter. An API
# key or a scope that was forgotten is repaired within a day, so what is refused longer is a fault
# of this contact alone. A dead letter can be requested again.
DEAD_LETTER_AFTER_SECONDS = 86_400


class Refetcher:
    """Answers the requests in `queue`: reads each contact and publishes what Nylas returned.

    `RefetchConsumer` fills the queue and commits. It replaces the queue when the topic was deleted
    and created again.
    """

    def __init__(
        self,
        context: ReaderContext,
        client: NylasClient,
        grants: GrantTable,
        addresses: GrantAddresses,
        choose: Callable[[str], Choice],
        groups: GroupNameKeeper,
    ) -> None:
        """`choose` says of a grant ID whether its mailbox is synced."""
        self.queue = RefetchQueue()
        self._context, self._client, self._grants = context, client, grants
        self._addresses, self._choose, self._groups = addresses, choose, groups

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENT_REFETCHES):
                tasks.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            queue = self.queue
            request = queue.take_due(int(time.time()))
            if request is None:
                await asyncio.sleep(DUE_CHECK_SECONDS)
            else:
                with doing(self._context.work.refetches):
                    await self._answer(queue, request)

    async def _answer(self, queue: RefetchQueue, request: RefetchRequest) -> None:
        grant, _, contact_id = request.key.decode().partition("/")
        try:
            if not await self._is_selected(grant):
                self._count("not_selected")
                queue.finish(request)
                return
            reading = await get_contact(self._client, grant, contact_id)
            changed_at = request.not_before - SETTLED_SECONDS
            await self._groups.read_for(reading.contact, grant, changed_at)
        except NotFound as error:
            finished = await self._not_found(queue, request, error)
        except Passing as fault:
            finished = await self._unanswered(queue, request, fault)
        except Refused as fault:
            await self._refused(request, fault)
            finished = True
        else:
            finished = await self._found(queue, request, reading)
        if finished:
            queue.finish(request)

    async def _is_selected(self, grant: str) -> bool:
        """Whether the mailbox of a grant is synced; asks Nylas for its address if need be.

        Raises as `get_grant` does.
        """
        choice = self._choose(grant)
        if choice.why is Why.ADDRESS_UNKNOWN:
            found = await get_grant(self._client, grant)
            named = GrantAddress(grant, found.email, found.provider)
            record = address_record(self._context.topics, named, int(time.time()))
            await self._context.publish([record])
            self._addresses.apply(record)
            choice = self._choose(grant)
        return choice.selected

    async def _found(self, queue: RefetchQueue, request: RefetchRequest, reading: Reading) -> bool:
        """Publishes the contact; False if it was read too early and was put back."""
        if _put_back_if_early(queue, request, reading.served_at):
            return False
        if not has_content(reading.contact):
            await self._without_content(request, reading)
            return True
        grant, _, contact_id = request.key.decode().partition("/")
        request_id = reading.request_id or f"refetch/{now_ms()}"
        contact = {**reading.contact, "id": contact_id}
        with self._context.page_span() as trace:
            await self._context.publish(
                page_records(
                    self._context.topics,
                    grant,
                    Origin.REFETCH,
                    request_id,
                    reading.served_at,
                    self._groups.named(grant, [contact]),
                    trace,
                    grant_address=self._addresses.named(grant),
                )
            )
        self._context.metrics.contacts.labels("refetch").inc()
        self._count("found")
        return True

    async def _without_content(self, request: RefetchRequest, reading: Reading) -> None:
        """Writes the request to the dead letters: Nylas gives only the IDs of the contact.

        An event of it would only have dedupe ask for the same contact again.
        """
        detail = f"Nylas returned only the IDs of the contact, request {reading.request_id}"
        await self._dead_letter(self._requeued(request, 0), "no_content", detail)
        log.warning(
            "Nylas returned only the IDs of a contact; its request became a dead letter",
            **place(self._requeued(request, 0)),
            contact=reference(request.key),
            remedy="look at the contact in its address book; a change of it is read again",
        )
        self._count("no_content")

    async def _dead_letter(self, record: KafkaRecord, reason: str, detail: str) -> None:
        topic = self._context.topics.dead_letter.name
        letter = dead_letter(topic, record, "reader", reason, detail, once_for_key=True)
        await self._context.publish([letter])

    async def _not_found(
        self, queue: RefetchQueue, request: RefetchRequest, error: NotFound
    ) -> bool:
        """Publishes the contact as deleted; False if it was read too early and was put back.

        If the grant itself is gone, its event decides what happens to its contacts.
        """
        if error.of_grant:
            self._count("grant_gone")
            return True
        if _put_back_if_early(queue, request, error.served_at):
            return False
        grant, _, contact_id = request.key.decode().partition("/")
        version = error.served_at - PAGE_MARGIN_SECONDS
        event_id = f"refetch/{error.served_at}/{contact_id}"
        record = deletion_record(
            self._context.topics, grant, contact_id, Origin.REFETCH, event_id, version
        )
        await self._context.publish([record])
        self._count("gone")
        return True

    async def _unanswered(
        self, queue: RefetchQueue, request: RefetchRequest, fault: Passing
    ) -> bool:
        """Puts the request back, or writes it to the topic again if it was held for too long."""
        log.info(
            "refetch not answered",
            fault=str(fault),
            **place(self._requeued(request, 0)),
            contact=reference(request.key),
        )
        now = time.time()
        due = int(now + seconds_until_next(fault, UNANSWERED_RETRY_SECONDS)) + 1
        if int(now) - request.since < MAX_HELD_SECONDS:
            queue.put_back(request, due, park_grant=True)
            return False
        await self._context.publish([self._requeued(request, due)])
        self._count("held_too_long")
        return True

    async def _refused(self, request: RefetchRequest, fault: Refused) -> None:
        """Writes the request to the topic again, or after a day to the dead letters.

        A contact of an expired grant is dropped: once the grant has signed in again, all its
        contacts are compared.
        """
        now = int(time.time())
        record = self._requeued(request, now + REFUSED_RETRY_SECONDS)
        if self._grants.status.get(request.grant) == "expired":
            outcome = "expired"
        elif now - request.received_ms // 1000 > DEAD_LETTER_AFTER_SECONDS:
            outcome = "dead_lettered"
            await self._dead_letter(record, "refused", str(fault))
        else:
            outcome = "refused"
            await self._context.publish([record])
        log.warning(
            "refetch refused",
            status=fault.status,
            outcome=outcome,
            **place(record),
            contact=reference(request.key),
        )
        self._count(outcome)

    def _requeued(self, request: RefetchRequest, due: int) -> KafkaRecord:
        """The same request for the end of the topic."""
        headers = refetch_headers(request.reason, max(due, request.not_before), request.received_ms)
        name = self._context.topics.refetch.name
        return KafkaRecord(name, request.key, b"", headers, 0, request.offsets[0])

    def _count(self, outcome: str) -> None:
        self._context.metrics.refetched.labels(outcome).inc()


def _put_back_if_early(queue: RefetchQueue, request: RefetchRequest, served_at: int) -> bool:
    """Puts the request back if Nylas answered too early by its own clock.

    That clock may be behind ours, and only that clock orders events.
    """
    if served_at >= request.not_before:
        return False
    queue.put_back(request, int(time.time()) + request.not_before - served_at)
    return True


class RefetchConsumer:
    """Reads contacts.refetch into the queue of a Refetcher, and commits what it has answered."""

    def __init__(
        self,
        kafka: KafkaSettings,
        context: ReaderContext,
        refetcher: Refetcher,
        runs: RunWriter,
    ) -> None:
        self._kafka, self._context = kafka, context
        self._refetcher, self._runs = refetcher, runs

    async def run(self) -> None:
        """Works until it is cancelled."""
        lost = self._context.metrics.offset_resets.labels("contacts.refetch")
        self._context.metrics.oldest_unfinished.set_function(
            lambda: self._refetcher.queue.offsets.received.oldest_seconds()
        )
        async with AssignedPartition(
            self._kafka,
            self._context.topics.refetch.name,
            group(self._kafka, "reader-work"),
            lost.inc,
        ) as source:
            if await source.start():
                await self._runs.reconcile_after_loss("contacts.refetch")
                await source.commit(source.position)
            commits = OffsetCommitter(source, -1, COMMIT_SECONDS)
            while True:
                queue = self._refetcher.queue
                try:
                    records = await _consume(source, queue)
                except OffsetOutOfRange:
                    await self._runs.reconcile_after_loss("contacts.refetch")
                    await source.start_over()
                    await source.commit(source.position)
                    # The offsets of the old requests belong to another log.
                    self._refetcher.queue = RefetchQueue()
                    commits.committed = -1
                    continue
                for record in records:
                    self._add(queue, record)
                self._context.metrics.pending.set(len(queue))
                offset = queue.offsets.committable()
                if offset is not None:
                    await commits.commit_if_due(offset)

    def _add(self, queue: RefetchQueue, record: KafkaRecord) -> None:
        if not queue.add(record, int(time.time())):
            self._context.metrics.refetched.labels("unreadable").inc()
            log.error(
                "record of contacts.refetch skipped: its key is no contact key",
                **place(record),
                contact=reference(record.key or b""),
            )


async def _consume(source: AssignedPartition, queue: RefetchQueue) -> list[KafkaRecord]:
    if len(queue) < MAX_PENDING:
        return await source.consume()
    await asyncio.sleep(FULL_QUEUE_SECONDS)
    return []
