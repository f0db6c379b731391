"""The sink without Kafka, measured: the URL of an org, CONTACTS and IN_FLIGHT as arguments.

The whole sink works: intake, batches, planning, requests over HTTP, outcomes. Its consumer and its
publisher are lists. First all contacts are new to the org, as in a backfill; then the title of each
has changed, as by webhooks. Prints JSON: the processor microseconds and the seconds of both halves,
the contacts of each pair of calls, and the peak of memory.
"""

import asyncio
import json
import logging
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog
import uvloop

import streams.sink.process  # noqa: F401  # what the idle process has loaded
from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.policy import Policy
from connectors.salesforce.sync import Sync
from streams.events import Kind, Origin, change_headers, run_header
from streams.kafka.records import KafkaRecord
from streams.runtime.memory import (
    collect_garbage_rarely,
    freeze_startup_objects,
    limit_malloc_arenas,
)
from streams.sink.catch_up import written_note
from streams.sink.open_calls import CALLS_ENDED
from tests.benchmarks.quick_org import host_of
from tests.support.sink_harness import NAMES, FakeConsumer, FakeMessage, SinkHarness, running_sink

GRANTS = 5
# Of 100 contacts, those who belong to one of so many Accounts, and those with free mail. The others
# are alone at their domains.
AT_ACCOUNTS, AT_FREE_MAIL = 40, 30
ACCOUNTS = 2000
# Of ten contacts, those who have two addresses; the others have one.
WITH_SECOND_ADDRESS = 3
WAIT_SECONDS = 0.005
# Seconds: the default, and a shorter one, since what is left at the end waits for it once.
LINGER, BULK_LINGER = 2.0, 0.5
HALVES = ("created", "updated")
TITLES = ("Countess", "Programmer")
# Of a fixed loop, each time: less than a millisecond, in which the sink waits. So often that the
# loop sees the machine as the sink sees it, whose speed varies within a run.
LOOP_ROUNDS, LOOP_EVERY_SECONDS = 2_000, 0.1


def contact(number: int, title: str) -> dict[str, Any]:
    """A contact as dedupe keeps it: a person with one or two addresses and two numbers."""
    host = f"own-{number}.example"
    if number % 100 < AT_ACCOUNTS:
        host = host_of(number * 7919 % ACCOUNTS)
    elif number % 100 < AT_ACCOUNTS + AT_FREE_MAIL:
        host = "gmail.com"
    return {
        "grant_id": f"5967ca40-a2d8-4ee0-a0e0-6f18ace39a{number % GRANTS:02}",
        "id": f"{number:012}",
        "object": "contact",
        "given_name": f"Ada{number % 977}",
        "surname": f"Lovelace{number}",
        "source": "address_book",
        "company_name": "Analytical Engines",
        "job_title": title,
        "emails": [
            {"email": f"ada.lovelace{number}@{host}", "type": "work"},
            {"email": f"ada{number}@gmail.com", "type": "home"},
        ][: 1 + (number % 10 < WITH_SECOND_ADDRESS)],
        "phone_numbers": [
            {"number": f"+1 555 {number:06}", "type": "work"},
            {"number": f"+1 556 {number:06}", "type": "mobile"},
        ],
    }


def changes(count: int, version: int, title: str, origin: Origin) -> list[KafkaRecord]:
    """The changes of all contacts, as records of contacts.changes."""
    found = []
    received = b"%d" % (time.time_ns() // 1_000_000)
    for number in range(count):
        person = contact(number, title)
        headers = [
            *change_headers(
                Kind.UPDATED, version, f"{number:032x}", "0" * 16, origin.value.encode(), received
            ),
            *run_header("" if origin is Origin.WEBHOOK else "backfill-0123456789"),
        ]
        key = f"{person['grant_id']}/{person['id']}".encode()
        offset = (version - 1) * count + number
        found.append(KafkaRecord(NAMES.changes.name, key, orjson.dumps(person), headers, 0, offset))
    return found


class WaitingConsumer(FakeConsumer):
    """A consumer that waits for records as the real one does, and does not spin.

    The group's commit says that no predecessor wrote anything, so that nothing is read twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commit_note = f"{written_note(0)} {CALLS_ENDED}"

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        found = super().consume(count, timeout)
        if not found:
            time.sleep(timeout)
        return found


@dataclass(frozen=True, slots=True)
class Figures:
    """What one half of the run took."""

    processor_us: float
    """Processor microseconds of a contact."""
    loop_us: float
    """Those of a round of a fixed loop meanwhile; see `FixedLoop`."""
    contacts_per_second: float
    contacts_per_pair: float
    """Contacts for each pair of calls, whichever of the two kinds had more."""


class FixedLoop:
    """A fixed piece of Python that runs now and then: by its time runs of a busy machine compare.

    It takes the processor from the sink, which does not count for the sink.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """Of the processor, all runs together."""
        self._rounds = 0
        self._next = 0.0

    def run_if_due(self) -> None:
        """Runs it if LOOP_EVERY_SECONDS have passed. Blocks."""
        if time.monotonic() < self._next:
            return
        began = time.thread_time()
        found: dict[str, int] = {}
        for number in range(LOOP_ROUNDS):
            found[f"{number % 1009}@example.com".strip().lower()] = number
        self.seconds += time.thread_time() - began
        self._rounds += LOOP_ROUNDS
        self._next = time.monotonic() + LOOP_EVERY_SECONDS

    @property
    def round_us(self) -> float:
        """Processor microseconds of a round."""
        return self.seconds / self._rounds * 1e6


async def written(sink: SinkHarness, records: list[KafkaRecord], calls: Counter[str]) -> Figures:
    """Offers records to the sink, and waits until their offsets are committed."""
    calls.clear()
    loop = FixedLoop()
    began, worked = time.monotonic(), time.process_time()
    with sink.consumer.lock:
        sink.consumer.log.extend(records)
    while sink.committed < len(sink.consumer.log):
        assert sink.running is not None
        assert not sink.running.done(), "the sink ended"
        loop.run_if_due()
        await asyncio.sleep(WAIT_SECONDS)
    worked, seconds = time.process_time() - worked - loop.seconds, time.monotonic() - began
    pairs = max(calls["composite_query"], calls["composite_write"])
    return Figures(
        round(worked / len(records) * 1e6, 1),
        round(loop.round_us, 3),
        round(len(records) / seconds),
        round(len(records) / max(1, pairs), 1),
    )


async def measure(url: str, count: int, in_flight: int) -> dict[str, Any]:
    """The figures of a run."""
    calls: Counter[str] = Counter()

    def on_call(kind: str, _status: int | None, _seconds: float) -> None:
        calls[kind] += 1

    http = http_client()
    session = Session(ClientCredentials("id", "secret", url), http, on_call)
    async with SalesforceClient(session, http, on_call=on_call) as client:
        sync = Sync(client, Policy())
        await sync.start()
        found: dict[str, Any] = {}
        async with running_sink(
            sync,
            consumer=WaitingConsumer(),
            in_flight=in_flight,
            linger=LINGER,
            bulk_linger=BULK_LINGER,
        ) as sink:
            for half, origin in enumerate((Origin.BACKFILL, Origin.WEBHOOK)):
                records = changes(count, half + 1, TITLES[half], origin)
                found[HALVES[half]] = asdict(await written(sink, records, calls))
        statuses = Counter(outcome["outcome"] for _, outcome in sink.all_outcomes())
    found["outcomes"] = dict(statuses)
    found["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return found


def main() -> None:
    """Prints the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    limit_malloc_arenas()
    freeze_startup_objects()
    collect_garbage_rarely()
    url, count, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(uvloop.run(measure(url, count, in_flight))))


if __name__ == "__main__":
    main()
