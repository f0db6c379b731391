"""What transactions cost the sink's outcomes: records a second, and the wait of a batch.

    make bench ARGS=tests/benchmarks/bench_outcomes.py

A plain producer and one with a transactional ID publish the same batches in the same run, in turn,
so that the ratios hold whatever else the machine does.
"""

import asyncio
import os
import time
from statistics import median

import pytest

from streams.kafka.clients import producer_config
from streams.kafka.publisher import Publisher, RecordPublisher
from streams.kafka.records import KafkaRecord
from streams.kafka.transactions import DELIVERY_SECONDS, TransactionalPublisher, transactional
from streams.settings import KafkaSettings, load
from tests.benchmarks.conftest import MeasuredSheet
from tests.benchmarks.sheets import Sheet
from tests.support.kafka import Kafka

BATCHES = int(os.environ.get("BENCH_BATCHES", "40"))
ROUNDS = 3
BATCH_ROWS = 1000
# As many as the sink has in flight at most.
IN_FLIGHT = 16
OUTCOME_BYTES = 250
TAKE_OVER_SECONDS = 60.0
# The sink's bar is 4,000 contacts a second, and the org is slower than Kafka.
MIN_RECORDS_PER_SECOND = 4000
MIN_RATIO = 0.3

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]


async def waits(publisher: RecordPublisher, rows: list[KafkaRecord]) -> list[float]:
    """How long each of some batches waits, one after the other, in ms."""
    found = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        await publisher.publish(rows)
        found.append((time.perf_counter() - began) * 1000)
    return found


async def records_per_second(publisher: RecordPublisher, rows: list[KafkaRecord]) -> float:
    """The throughput with IN_FLIGHT batches at any time."""

    async def work() -> None:
        for _ in range(BATCHES // 4):
            await publisher.publish(rows)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return IN_FLIGHT * (BATCHES // 4) * len(rows) / (time.perf_counter() - began)


async def test_outcomes_in_transactions(kafka: Kafka, measured_sheet: MeasuredSheet) -> None:
    """Transactions leave far more than the sink needs."""
    name = kafka.create("contacts.outcomes", config={"cleanup.policy": "compact"})
    config = producer_config(load(KafkaSettings, kafka.environ), delivery_timeout=DELIVERY_SECONDS)
    plain, owner = Publisher(config), TransactionalPublisher(transactional(config, name))
    rows = [
        KafkaRecord(name, b"grant/%d" % number, os.urandom(OUTCOME_BYTES), [])
        for number in range(BATCH_ROWS)
    ]
    plain.open()
    owner.open()
    await asyncio.to_thread(owner.take_over, TAKE_OVER_SECONDS)
    single = dict[str, list[float]](plain=[], transactional=[])
    whole = dict[str, list[float]](plain=[], transactional=[])
    speed = dict[str, list[float]](plain=[], transactional=[])
    try:
        publishers: dict[str, RecordPublisher] = {"plain": plain, "transactional": owner}
        for _ in range(ROUNDS):
            for kind, publisher in publishers.items():
                single[kind] += await waits(publisher, rows[:1])
                whole[kind] += await waits(publisher, rows)
                speed[kind].append(await records_per_second(publisher, rows))
    finally:
        await plain.close(1.0)
        await owner.close(1.0)
    ratio = median(speed["transactional"]) / median(speed["plain"])
    measured_sheet(
        Sheet(
            "outcomes",
            f"What a transaction costs the sink: {ROUNDS} rounds in turn of {BATCHES} batches, "
            f"each of one record and of {BATCH_ROWS:,}, and with {IN_FLIGHT} batches in flight.",
            ["records/s", "ms for one record", "ms for a batch"],
            {
                kind: [median(speed[kind]), median(single[kind]), median(whole[kind])]
                for kind in publishers
            },
            {"transactional to plain": ratio},
        )
    )
    assert median(speed["transactional"]) > MIN_RECORDS_PER_SECOND
    assert ratio > MIN_RATIO
