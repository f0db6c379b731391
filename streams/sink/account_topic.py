"""sink.accounts: what is known of the org's Accounts, so that a start asks only for what changed.

The key of a record is an Account ID, its value the host and the rank of the Account, and a
tombstone where no domain leads to it. One more record, CURSOR_KEY, says how far the Accounts were
read: it is published once the rows before it are acknowledged. Domains that lead to an Account by
their Contacts have records and a cursor of their own, whose keys begin with CONTACTS_PREFIX.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from inspect import GEN_RUNNING, getgeneratorstate
from itertools import islice
from typing import Any

import orjson
import structlog
from confluent_kafka import KafkaException

from connectors.salesforce.account_store import (
    AccountCursor,
    AccountStoreUnavailable,
    ContactDomainCursor,
    OpenLoad,
    StoredPage,
)
from connectors.salesforce.account_table import (
    CREATED_END,
    GENERATIONS,
    ID_LENGTH,
    AccountRow,
)
from connectors.salesforce.api.client import Fence
from connectors.salesforce.contact_domains import ContactDomain
from connectors.salesforce.domains import MAX_HOST
from connectors.salesforce.sequences import batched
from streams.kafka.publisher import PublishFailed, RecordPublisher
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import SnapshotStalled, read_to_end
from streams.runtime.logs import place
from streams.settings import KafkaSettings
from streams.sink.retry_policy import backoff

log = structlog.get_logger()

CURSOR_KEY = b"cursor"
CONTACTS_PREFIX = b"contacts/"
CONTACTS_CURSOR_KEY = b"contacts-cursor"
# Records that are read, or encoded, in one go: some 5 ms of the event loop.
RECORDS_AT_ONCE = 250
# Rows that are published together: what the org answers at once. Each publication waits for a
# transaction, of which a load of a million Accounts should not have thousands.
ROWS_PUBLISHED_AT_ONCE = 2000
# Kafka keeps tombstones of a compacted topic for a day. A reader that was away for longer may have
# missed some, and reads from the start.
REREAD_SECONDS = 12 * 3600.0
# Between attempts to publish rows that the broker did not acknowledge. After the last one the
# batch fails, and the sink's own pauses follow.
PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS, PUBLISH_ATTEMPTS = 0.1, 5.0, 5


def encode_row(row: AccountRow) -> bytes | None:
    """The value of a row; None, a tombstone, for one to which no domain leads."""
    if row.is_empty:
        return None
    value: list[Any] = [
        row.host,
        row.domain_length,
        int(row.has_parent),
        row.created,
        row.generation,
    ]
    return orjson.dumps([*value, row.further_hosts] if row.further_hosts else value)


def encode_cursor(cursor: AccountCursor) -> bytes:
    """The value of the cursor's record."""
    return orjson.dumps(cursor)


def decode_row(key: bytes, value: bytes | None) -> AccountRow | None:
    """The row of a record; None for one that nobody of this version wrote."""
    if len(key) != ID_LENGTH or not key.isalnum():
        return None
    account_id = key.decode("ascii")
    if value is None:
        return AccountRow(account_id)
    try:
        host, domain_length, has_parent, created, generation, *more = orjson.loads(value)
        further = tuple(more[0]) if more else ()
        fits = (
            _is_host(host, domain_length)
            and len(more) <= 1
            and all(0 < len(each) <= MAX_HOST and each.isascii() for each in further)
            and bool(host or further)
            and 0 <= created < CREATED_END
            and 0 <= generation < GENERATIONS
        )
        row = AccountRow(
            account_id,
            host,
            int(domain_length),
            bool(has_parent),
            int(created),
            int(generation),
            further,
        )
    except (ValueError, TypeError, AttributeError):
        return None
    return row if fits else None


def _is_host(host: str, domain_length: int) -> bool:
    """Whether it is a host with its registrable domain, or no host."""
    if not host:
        return domain_length == 0
    return host.isascii() and 0 < domain_length <= len(host) <= MAX_HOST


def encode_contact_domain(one: ContactDomain) -> bytes | None:
    """The value of a domain's record; None, a tombstone, for one without an Account."""
    return orjson.dumps([one.account_id, one.contacts, one.of]) if one.account_id else None


def decode_contact_domain(key: bytes, value: bytes | None) -> ContactDomain | None:
    """The domain of a record; None for one that nobody of this version wrote."""
    try:
        domain = key.removeprefix(CONTACTS_PREFIX).decode("ascii")
        if value is None:
            return ContactDomain(domain)
        account_id, contacts, total = orjson.loads(value)
        fits = len(account_id) == ID_LENGTH and account_id.isalnum() and 0 < contacts <= total
        return ContactDomain(domain, account_id, int(contacts), int(total)) if fits else None
    except (ValueError, TypeError, AttributeError):
        return None


def decode_contact_cursor(value: bytes | None) -> ContactDomainCursor | None:
    """The cursor of a record; None for one that nobody of this version wrote."""
    try:
        found = orjson.loads(value or b"")
        return ContactDomainCursor(_moment(found["read_at"]), str(found["rules"]))
    except (ValueError, TypeError, KeyError):
        return None


def decode_cursor(value: bytes | None) -> AccountCursor | None:
    """The cursor of a record; None for one that nobody of this version wrote."""
    try:
        found = orjson.loads(value or b"")
        load = found.pop("load")
        known = found.pop("known_until")
        return AccountCursor(
            known_until=None if known is None else _moment(known),
            load=None if load is None else _open_load(load),
            **found,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _open_load(found: dict[str, Any]) -> OpenLoad:
    read = {"asked": _moment(found["asked"]), "fields": tuple(found["fields"])}
    return OpenLoad(**found | read)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment


@dataclass(slots=True)
class _Page:
    """Records of the topic, and the offset behind them."""

    stored: StoredPage
    next_offset: int


class AccountTopicReader:
    """Reads the topic; `save` does nothing. For commands, which only read."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._clock = clock
        self._next_offset = 0
        self._read_at: float | None = None

    async def load(self) -> AsyncIterator[StoredPage]:
        """Yields what was published since the last `load`, or everything after a long time.

        Threads wait for Kafka and parse the records. Raises SnapshotStalled, KafkaException.
        """
        started = self._clock()
        if self._read_at is None or started - self._read_at > REREAD_SECONDS:
            self._next_offset = 0
            yield StoredPage(from_start=True)
        records = read_to_end(self._kafka, self._topic, offset=self._next_offset)
        try:
            while page := await asyncio.to_thread(_next_page, records):
                yield page.stored
                self._next_offset = page.next_offset
        finally:
            # After a cancellation a thread may still read, and closes it by itself.
            if getgeneratorstate(records) != GEN_RUNNING:
                records.close()
        self._read_at = started

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        """Does nothing."""

    async def save_contact_domains(
        self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor, fence: Fence
    ) -> None:
        """Does nothing."""


class AccountTopic(AccountTopicReader):
    """Reads the topic, and publishes to it. One writer at a time, under its fence."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        publisher: RecordPublisher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(kafka, topic, clock)
        self._publisher = publisher

    async def save(
        self, rows: Sequence[AccountRow], cursor: AccountCursor | None, fence: Fence
    ) -> None:
        """Returns once the broker has the rows, and after them the cursor.

        Raises AccountStoreUnavailable, and WriterFenced where the fence does.
        """
        for together in batched(rows, ROWS_PUBLISHED_AT_ONCE):
            pairs = list[tuple[bytes, bytes | None]]()
            for part in batched(together, RECORDS_AT_ONCE):
                pairs += [(row.id.encode(), encode_row(row)) for row in part]
                await asyncio.sleep(0)
            await self._publish(pairs, fence)
        if cursor is not None:
            await self._publish([(CURSOR_KEY, encode_cursor(cursor))], fence)

    async def save_contact_domains(
        self, domains: Sequence[ContactDomain], cursor: ContactDomainCursor, fence: Fence
    ) -> None:
        """Returns once the broker has the domains, and after them the cursor. Raises as `save`."""
        for together in batched(domains, ROWS_PUBLISHED_AT_ONCE):
            pairs: list[tuple[bytes, bytes | None]] = [
                (CONTACTS_PREFIX + one.domain.encode(), encode_contact_domain(one))
                for one in together
            ]
            await self._publish(pairs, fence)
        await self._publish([(CONTACTS_CURSOR_KEY, orjson.dumps(cursor))], fence)

    async def _publish(self, pairs: list[tuple[bytes, bytes | None]], fence: Fence) -> None:
        records = [KafkaRecord(self._topic, key, value, []) for key, value in pairs]
        for attempt in range(1, PUBLISH_ATTEMPTS + 1):
            fence()
            try:
                await self._publisher.publish(records)
            except PublishFailed as error:
                log.warning("accounts not acknowledged", topic=self._topic, error=str(error))
                if error.permanent or attempt == PUBLISH_ATTEMPTS:
                    raise AccountStoreUnavailable(f"{self._topic}: {error}") from error
                await asyncio.sleep(
                    backoff(attempt, random.random, PUBLISH_FIRST_SECONDS, PUBLISH_LONGEST_SECONDS)
                )
            else:
                return


def _next_page(records: Iterator[KafkaRecord]) -> _Page | None:
    """The next records of the topic; None at its end. Blocks."""
    rows: list[AccountRow] = []
    cursor: AccountCursor | None = None
    contact_domains: list[ContactDomain] = []
    contact_cursor: ContactDomainCursor | None = None
    offset, skipped = -1, 0
    last_skipped: KafkaRecord | None = None
    for record in islice(records, RECORDS_AT_ONCE):
        offset = record.offset
        if record.key == CURSOR_KEY:
            cursor = decode_cursor(record.value) or cursor
        elif record.key == CONTACTS_CURSOR_KEY:
            contact_cursor = decode_contact_cursor(record.value) or contact_cursor
        elif (
            record.key
            and record.key.startswith(CONTACTS_PREFIX)
            and (one := decode_contact_domain(record.key, record.value))
        ):
            contact_domains.append(one)
        elif record.key and (row := decode_row(record.key, record.value)):
            rows.append(row)
        else:
            skipped += 1
            last_skipped = record
    if last_skipped is not None:
        log.warning(
            "records of sink.accounts skipped; the last one is named",
            records=skipped,
            **place(last_skipped),
        )
    if offset < 0:
        return None
    found = StoredPage(
        rows, cursor, contact_domains=tuple(contact_domains), contact_cursor=contact_cursor
    )
    return _Page(found, offset + 1)


async def follow(restore: Callable[[], Any], is_writer: Callable[[], bool], every: float) -> None:
    """Reads the topic at once and then regularly, for a process that does not write it now.

    So a takeover has little left to read. Never returns; a fault of Kafka is logged and ends with
    the next reading.
    """
    while True:
        if not is_writer():
            try:
                await restore()
            except (SnapshotStalled, KafkaException) as error:
                log.warning("could not read the accounts from Kafka", error=str(error))
        await asyncio.sleep(every)
