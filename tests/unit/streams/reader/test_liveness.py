"""The reader is alive while its work goes on or waits on purpose, and not when a piece hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.grants import Grant
from streams.dedupe.planner import every_mailbox
from streams.events import refetch_headers
from streams.grant_addresses import GrantAddresses
from streams.kafka.publisher import Publisher, PublishFailed
from streams.kafka.records import KafkaRecord
from streams.metrics import ReaderMetrics
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.grant_events import GrantTable
from streams.reader.refetch import Refetcher
from streams.reader.retries import retrying_publish
from streams.reader.scan import Scanner, job_for
from streams.reader.work import PIECE_SECONDS, ReaderWork
from streams.runs import Run, RunKind
from streams.runtime.current_work import waiting_on_purpose
from streams.runtime.ops import Health, WorkInFlight
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.death import Clock
from tests.support.group_names import group_names

TOPICS = topics(load(KafkaSettings, {}))
CONTACT = {"id": "c1", "given_name": "Ada"}

Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


async def hangs(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("never")


async def asks_to_wait(_: httpx.Request) -> httpx.Response:
    return httpx.Response(429, headers={"Retry-After": "9"})


async def answers(request: httpx.Request) -> httpx.Response:
    data = CONTACT if request.url.path.endswith("/c1") else [CONTACT]
    return httpx.Response(200, json={"data": data, "request_id": "r"})


class AwayBroker:
    """Acknowledges nothing, as a producer reports it after its delivery time-out."""

    async def publish(self, _: Sequence[KafkaRecord]) -> None:
        await asyncio.sleep(0)
        raise PublishFailed("no acknowledgement")


class HangingBroker:
    """A producer whose own work is watched."""

    async def publish(self, _: Sequence[KafkaRecord]) -> None:
        await asyncio.Event().wait()


@dataclass
class Part:
    """A part of the reader with one piece of work, and what its liveness probe says."""

    answer: Answer
    broker: object = field(default_factory=AwayBroker)
    read_lag: Callable[[], int] = lambda: 0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.health = Health(1e9, self.clock)
        self.health.ready()
        self.work = ReaderWork(
            listings=WorkInFlight("listings of grants", PIECE_SECONDS, self.clock),
            refetches=WorkInFlight("contacts to read again", PIECE_SECONDS, self.clock),
        )
        self.work.watch(self.health)
        publish = retrying_publish(cast(Publisher, self.broker), self.health)
        gate = Gate(self.read_lag, 1, lambda _: None)
        metrics = ReaderMetrics(CollectorRegistry())
        self.context = ReaderContext(TOPICS, publish, gate, metrics, self.work)

    async def stalled_by(self, start: Callable[[NylasClient], Awaitable[None]]) -> str:
        """What the probe says when nothing has happened for longer than a piece may take."""
        async with client(self.answer) as nylas:
            work = asyncio.ensure_future(start(nylas))
            await asyncio.sleep(0.05)  # until the piece has come to its wait
            self.clock.now += PIECE_SECONDS + 1
            found = self.health.stalled_by
            work.cancel()
            await asyncio.wait([work])
        assert not self.work.listings.waiting_seconds
        return found

    async def list_grant(self, nylas: NylasClient) -> None:
        scanner = Scanner(self.context, nylas, group_names(self.context, nylas), 1)
        run = Run(RunKind.BACKFILL, ("g",), 0, "test")
        job = job_for("r", run, Grant("g", "google"), ("address_book",), None, None, 9)
        scanner.submit(job)
        await scanner.run()

    def refetcher(self, nylas: NylasClient) -> Refetcher:
        addresses = GrantAddresses()
        names = group_names(self.context, nylas)
        return Refetcher(self.context, nylas, GrantTable(), addresses, every_mailbox, names)

    async def refetch(self, nylas: NylasClient) -> None:
        refetcher = self.refetcher(nylas)
        headers = refetch_headers("conflict", 0, int(time.time() * 1000))
        record = KafkaRecord(TOPICS.refetch.name, b"g/c1", b"", headers, 0, 0)
        refetcher.queue.add(record, int(time.time()))
        await refetcher.run()

    async def nothing(self, nylas: NylasClient) -> None:
        async with asyncio.TaskGroup() as tasks:
            names = group_names(self.context, nylas)
            tasks.create_task(Scanner(self.context, nylas, names, 1).run())
            tasks.create_task(self.refetcher(nylas).run())


@asynccontextmanager
async def client(answer: Answer) -> AsyncIterator[NylasClient]:
    """A client whose requests are answered here, and whose waits never end."""

    async def never(_: float) -> None:
        await asyncio.Event().wait()

    nylas = NylasClient("http://nylas.example", "k", sleep=never, waiting=waiting_on_purpose)
    async with nylas, httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        original, nylas._http = nylas._http, http
        yield nylas
        nylas._http = original


@pytest.mark.parametrize(
    ("what", "said"),
    [("list_grant", "listings of grants"), ("refetch", "contacts to read again")],
)
async def test_a_request_that_hangs_fails_the_liveness_probe(what: str, said: str) -> None:
    part = Part(hangs)
    assert said in await part.stalled_by(getattr(part, what))


@pytest.mark.parametrize("what", ["list_grant", "refetch", "nothing"])
async def test_a_pause_that_nylas_asks_for_does_not(what: str) -> None:
    part = Part(asks_to_wait)
    assert await part.stalled_by(getattr(part, what)) == ""


@pytest.mark.parametrize("broker", [AwayBroker(), HangingBroker()])
@pytest.mark.parametrize("what", ["list_grant", "refetch"])
async def test_a_broker_that_is_away_does_not(what: str, broker: object) -> None:
    part = Part(answers, broker)
    assert await part.stalled_by(getattr(part, what)) == ""
    assert not isinstance(broker, AwayBroker) or part.health.waiting_for


async def test_live_changes_that_go_first_do_not() -> None:
    part = Part(answers, read_lag=lambda: 10)
    assert await part.stalled_by(part.list_grant) == ""


async def test_a_gate_whose_broker_is_away_does_not() -> None:
    def away() -> int:
        raise KafkaException("no broker")

    part = Part(answers, read_lag=away)
    assert await part.stalled_by(part.list_grant) == ""
