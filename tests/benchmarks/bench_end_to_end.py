"""From Nylas to the last row in Salesforce, beside what a recipe does (recipe.py).

    make bench ARGS=tests/benchmarks/bench_end_to_end.py

All systems do the same work in turn, each in an org of its own, with the delays of a real one. The
webhooks come from wrk, which is no Python and takes little of the processor.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.broker import Served
from tests.benchmarks.conftest import MeasuredFlow, MeasuredLatency
from tests.benchmarks.flows import Flow, Side
from tests.benchmarks.latencies import Latency, LatencyPoint, percentile
from tests.benchmarks.recipe import CALLS_AT_ONCE
from tests.benchmarks.whole_product import (
    CALL_SECONDS,
    CONNECTIONS,
    DELAYS,
    RECIPES,
    ROW_SECONDS,
    System,
    Work,
    address_books,
    distinct_people,
    systems,
    write_webhooks,
)
from tests.support.kafka import Kafka

ROUNDS = 3
CONTACTS = int(os.environ.get("BENCH_FLOW_CONTACTS", "5000"))
# At two calls for each contact a recipe takes minutes for what the others do in seconds. It works
# at the same pace however many there are.
SLOW_CONTACTS = CONTACTS // 10
ONE_BY_ONE = next(iter(RECIPES))

# Webhooks a second, and for how many seconds they come.
RATES = {1: 15, 100: 8, 1000: 6}
# Of ONE_BY_ONE: two calls for each contact, 25 at once.
MOST_ONE_BY_ONE = CALLS_AT_ONCE / (2 * CALL_SECONDS + ROW_SECONDS)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def working(
    kafka_server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[System]]:
    """All systems, with the address books of every round at Nylas."""
    kafka = Kafka(kafka_server.bootstrap, "end-to-end.")
    books = [
        book
        for number in range(ROUNDS)
        for count in (CONTACTS, SLOW_CONTACTS)
        for book in address_books(f"book{number}of{count}", count)
    ]
    try:
        with systems(kafka, tmp_path_factory.mktemp("end_to_end"), books) as found:
            yield found
    finally:
        kafka.delete_all()


def contacts_of(system: System) -> int:
    """How many contacts a system gets in a round."""
    return SLOW_CONTACTS if system.name == ONE_BY_ONE else CONTACTS


def side(system: System, rounds: list[Work], idle: str) -> Side:
    """The figures of a system, without those of the `idle` process, which had nothing to do."""
    return Side(
        system.name,
        contacts_of(system),
        [work.seconds for work in rounds],
        [work.calls for work in rounds],
        {
            name: [work.processor[name] for work in rounds]
            for name in rounds[0].processor
            if name != idle
        },
    )


def test_webhooks(working: list[System], tmp_path: Path, measured_flow: MeasuredFlow) -> None:
    """Webhooks as fast as they are answered, until the last contact is in the org."""
    found: dict[str, list[Work]] = {system.name: [] for system in working}
    for number in range(ROUNDS):
        contacts = distinct_people(f"live{number}", CONTACTS)
        for system in working:
            count = contacts_of(system)
            write_webhooks(tmp_path / "requests", contacts[:count])
            found[system.name].append(system.webhooks(tmp_path / "requests", count))
    measured_flow(
        Flow(
            "webhooks",
            f"{ROUNDS} rounds in turn of {CONTACTS:,} webhooks about new contacts, over "
            f"{CONNECTIONS} connections, {SLOW_CONTACTS:,} for {ONE_BY_ONE}. Time runs from the "
            f"first webhook until the last row is in the org, which takes {DELAYS}.",
            [side(system, found[system.name], idle="reader") for system in working],
        )
    )


def test_first_sync(working: list[System], measured_flow: MeasuredFlow) -> None:
    """Address books that nobody has read, until the last contact is in the org."""
    found: dict[str, list[Work]] = {system.name: [] for system in working}
    for number in range(ROUNDS):
        for system in working:
            count = contacts_of(system)
            grants = [book["id"] for book in address_books(f"book{number}of{count}", count)]
            found[system.name].append(system.first_sync(grants, count))
    measured_flow(
        Flow(
            "first sync",
            f"{ROUNDS} rounds in turn of {CONTACTS:,} contacts in three address books, "
            f"{SLOW_CONTACTS:,} for {ONE_BY_ONE}. Time runs from the start of the command until "
            f"the last row is in the org. Nylas and the org take {DELAYS}.",
            [side(system, found[system.name], idle="bridge") for system in working],
        )
    )


def test_latency(working: list[System], tmp_path: Path, measured_latency: MeasuredLatency) -> None:
    """Webhooks at steady rates: how long each contact takes into the org."""
    points: list[LatencyPoint] = []

    def point(system: System, rate: int) -> LatencyPoint:
        contacts = distinct_people(f"steady{rate}", rate * RATES[rate])
        requests = tmp_path / system.name.replace(" ", "-")
        write_webhooks(requests, contacts)
        work = system.webhooks(requests, len(contacts), rate=rate)
        # Each webhook counts from when it was due, so that a late one does not look quick.
        waited = [
            (work.written_at[f"{contact['grant_id']}/{contact['id']}"] - work.began) * 1000
            - number / rate * 1000
            for number, contact in enumerate(contacts)
        ]
        return LatencyPoint(
            system.name,
            rate,
            len(contacts),
            percentile(waited, 50),
            percentile(waited, 99),
            work.calls,
        )

    slowest = min(RATES)
    with ThreadPoolExecutor(len(working)) as together:  # so few do not disturb each other
        points += together.map(lambda system: point(system, slowest), working)
    for rate in sorted(RATES)[1:]:
        for system in working:
            if system.name != ONE_BY_ONE or rate < MOST_ONE_BY_ONE:
                points.append(point(system, rate))
    measured_latency(
        Latency(
            "latency",
            "From the moment at which a webhook is due until the org stores the contact, at steady "
            f"rates: {', '.join(f'{rate:,} a second for {s} s' for rate, s in RATES.items())}. The "
            f"org takes {DELAYS}, so {ONE_BY_ONE} takes {MOST_ONE_BY_ONE:.0f} a second at most and "
            "is left out above.",
            points,
        )
    )
