"""Requests to read a contact again: what is published for each answer of Nylas."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.contacts import Reading
from connectors.nylas.errors import Passing, RateLimited, Refused
from connectors.nylas.grants import Grant
from streams.events import refetch_headers
from streams.grant_addresses import GrantAddresses
from streams.kafka.records import KafkaRecord, header
from streams.mailboxes import Choice, MailboxRule, Why
from streams.metrics import ReaderMetrics
from streams.reader import refetch
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable
from streams.reader.refetch import CONCURRENT_REFETCHES, DEAD_LETTER_AFTER_SECONDS, Refetcher
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.group_names import group_names
from tests.support.letters import failed_record
from tests.support.waiting import until

TOPICS = topics(load(KafkaSettings, {}))


class RefetchHarness:
    """A refetcher with its published records; `answer` stands for Nylas."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, str], Awaitable[Reading]]
    ) -> None:
        async def get_contact(_client: object, grant: str, contact_id: str) -> Reading:
            return await answer(grant, contact_id)

        async def publish(records: Sequence[KafkaRecord]) -> None:
            self.published += records

        monkeypatch.setattr(refetch, "get_contact", get_contact)
        self.published: list[KafkaRecord] = []
        self.metrics, self.grants = ReaderMetrics(CollectorRegistry()), GrantTable()
        client = NylasClient("http://nowhere.example", "key")
        gate = Gate(lambda: 0, 1, lambda _: None)
        context = ReaderContext(TOPICS, publish, gate, self.metrics)
        self.addresses = GrantAddresses()
        self.choice = Choice(True, Why.EVERYTHING)
        self.refetcher = Refetcher(
            context,
            client,
            self.grants,
            self.addresses,
            lambda grant: self.choose(grant),
            group_names(context, client),
        )

    def choose(self, _grant: str) -> Choice:
        return self.choice

    def ask(self, *keys: str, received: float) -> None:
        for offset, key in enumerate(keys):
            headers = refetch_headers("conflict", 0, int(received * 1000))
            self.refetcher.queue.add(
                KafkaRecord(TOPICS.refetch.name, key.encode(), b"", headers, 0, offset),
                int(time.time()),
            )

    async def until(self, condition: Callable[[], object]) -> None:
        work = asyncio.create_task(self.refetcher.run())
        try:
            await until(condition, "it is answered")
        finally:
            work.cancel()
            await asyncio.wait([work])


async def test_a_grant_without_an_answer_does_not_hold_back_another_grant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(grant: str, contact_id: str) -> Reading:
        if grant == "slow":
            await asyncio.Event().wait()
        return Reading({"id": contact_id}, int(time.time()), "r")

    harness = RefetchHarness(monkeypatch, answer)
    harness.ask(
        *[f"slow/{number}" for number in range(3 * CONCURRENT_REFETCHES)],
        "quick/a",
        received=time.time(),
    )
    await harness.until(
        lambda: [failed_record(one).key for one in harness.published] == [b"quick/a"]
    )


async def test_a_throttle_of_a_grant_holds_back_all_its_contacts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_for: list[str] = []

    async def answer(_grant: str, contact_id: str) -> Reading:
        asked_for.append(contact_id)
        raise RateLimited(300.0)

    harness = RefetchHarness(monkeypatch, answer)
    harness.ask("g/a", "g/b", received=time.time())
    before = int(time.time())
    await harness.until(lambda: len(harness.refetcher.queue) == 2 and asked_for)
    assert len(asked_for) == 1
    assert harness.refetcher.queue.take_due(before + 299) is None
    assert harness.refetcher.queue.take_due(before + 400) is not None


@pytest.mark.parametrize(
    ("status", "age", "outcome"),
    [
        ("valid", 60, "refused"),
        ("valid", DEAD_LETTER_AFTER_SECONDS + 60, "dead_lettered"),
        ("expired", 60, "expired"),
        ("expired", DEAD_LETTER_AFTER_SECONDS + 60, "expired"),
    ],
)
async def test_a_refused_contact_is_requested_again_for_a_day_and_then_dead_lettered(
    monkeypatch: pytest.MonkeyPatch, status: str, age: float, outcome: str
) -> None:
    async def answer(_grant: str, _contact_id: str) -> Reading:
        raise Refused(400, "the ID is not one")

    harness = RefetchHarness(monkeypatch, answer)
    harness.grants.status["g"] = status
    received = time.time() - age
    harness.ask("g/a", received=received)
    await harness.until(lambda: harness.refetcher.queue.offsets.committable() == 1)
    assert harness.metrics.refetched.labels(outcome)._value.get() == 1
    if outcome == "expired":
        assert harness.published == [], "a reconcile after the sign-in covers it"
        return
    (record,) = harness.published
    failed = failed_record(record) if outcome == "dead_lettered" else record
    assert (failed.key, header(record.headers, "received_ms")) == (
        b"g/a",
        b"%d" % (received * 1000),
    )
    if outcome == "refused":
        assert record.topic == TOPICS.refetch.name
        assert int(header(record.headers, "not_before") or b"") > time.time() + 500
    else:
        assert record.topic == TOPICS.dead_letter.name
        assert header(record.headers, "dlq.reason") == b"refused"
        assert header(record.headers, "dlq.original.topic") == TOPICS.refetch.name.encode()
        assert b"400" in (header(failed.headers, "dlq.detail") or b"")


async def test_a_contact_that_nylas_cannot_serve_does_not_hold_the_commit_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_grant: str, _contact_id: str) -> Reading:
        raise Passing(503)

    monkeypatch.setattr(refetch, "MAX_HELD_SECONDS", 2)
    monkeypatch.setattr(refetch, "UNANSWERED_RETRY_SECONDS", 0)
    harness = RefetchHarness(monkeypatch, answer)
    harness.ask("g/a", received=time.time() - 2 * DEAD_LETTER_AFTER_SECONDS)
    await harness.until(lambda: harness.refetcher.queue.offsets.committable() == 1)
    (record,) = harness.published
    assert (record.topic, record.key) == (TOPICS.refetch.name, b"g/a"), (
        "asked for again, however old it is"
    )
    assert int(header(record.headers, "not_before") or b"") >= time.time() - 1
    assert harness.metrics.refetched.labels("held_too_long")._value.get() == 1


async def test_a_contact_of_which_nylas_gives_only_the_ids_becomes_a_dead_letter_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(grant: str, contact_id: str) -> Reading:
        contact = {"id": contact_id, "grant_id": grant, "object": "contact"}
        return Reading(contact, int(time.time()), "r")

    harness = RefetchHarness(monkeypatch, answer)
    harness.ask("g/a", received=time.time())
    await harness.until(lambda: harness.refetcher.queue.offsets.committable() == 1)
    (record,) = harness.published
    assert record.topic == TOPICS.dead_letter.name, "an event would only ask for it again"
    assert failed_record(record).key == b"g/a"
    assert header(record.headers, "dlq.reason") == b"no_content"
    assert header(record.headers, "dlq.original.topic") == TOPICS.refetch.name.encode()
    assert harness.metrics.refetched.labels("no_content")._value.get() == 1


async def test_a_contact_of_a_mailbox_that_is_not_selected_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_grant: str, _contact_id: str) -> Reading:
        raise AssertionError("it is not asked for")

    harness = RefetchHarness(monkeypatch, answer)
    harness.choice = Choice(False, Why.NO_ENTRY)
    harness.ask("g/a", received=time.time())
    await harness.until(lambda: len(harness.refetcher.queue) == 0)
    assert harness.published == []
    assert harness.metrics.refetched.labels("not_selected")._value.get() == 1


@pytest.mark.parametrize(("address", "read"), [("ada@x.example", True), ("bob@x.example", False)])
async def test_the_address_of_an_unknown_grant_is_asked_for_and_kept_before_its_contact_is_read(
    monkeypatch: pytest.MonkeyPatch, address: str, read: bool
) -> None:
    async def answer(_grant: str, contact_id: str) -> Reading:
        return Reading({"id": contact_id, "given_name": "A"}, int(time.time()), "r")

    async def get_grant(_client: object, grant: str) -> Grant:
        return Grant(grant, "google", address)

    harness = RefetchHarness(monkeypatch, answer)
    monkeypatch.setattr(refetch, "get_grant", get_grant)
    rule = MailboxRule(("ada@x.example",))
    monkeypatch.setattr(
        harness, "choose", lambda grant: rule.choose(harness.addresses.address(grant), {})
    )
    harness.ask("g/a", received=time.time())
    await harness.until(lambda: len(harness.refetcher.queue) == 0)
    kept, *contacts = harness.published
    assert kept.key == b"g/address"
    assert [record.key for record in contacts] == ([b"g/a"] if read else [])
