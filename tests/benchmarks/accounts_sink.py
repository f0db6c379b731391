"""What a start of the sink does with the Accounts, measured: the URL of an org as argument.

Reads the topic of the Accounts, if the environment names a broker, and then the org. Prints JSON:
the calls, the seconds, the memory above the idle process in MB, and for how long the event loop was
kept in ms: by the clock, and by processor time alone, which other processes do not add to.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop

import streams.sink.process  # noqa: F401  # what the idle process has loaded
from connectors.salesforce.account_store import AccountStore, NoAccountStore
from connectors.salesforce.api.auth import ClientCredentials, Session
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.domains import registrable_domain
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.policy import Policy
from connectors.salesforce.sync import Sync
from streams.kafka.clients import producer_config
from streams.kafka.transactions import DELIVERY_SECONDS, TransactionalPublisher, transactional
from streams.runtime.memory import freeze_startup_objects, limit_malloc_arenas
from streams.settings import KafkaSettings, load
from streams.sink.account_topic import AccountTopic
from streams.topics import topics, transactional_id

TICK_SECONDS = 0.002
# A broker that has just started creates the topic of its transactions first.
TAKE_OVER_SECONDS = 60.0


def resident_mb() -> float:
    """The memory that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The most memory that the process held since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError("VmHWM")


def forget_peak() -> None:
    """Lets the kernel count the peak from now on."""
    Path("/proc/self/clear_refs").write_text("5")


class LoopWatch:
    """The longest time, in ms, that the event loop was kept from its next round."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.longest_processor = 0.0

    async def watch(self) -> None:
        """Never returns."""
        while True:
            started, processor = time.monotonic(), time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            late = time.monotonic() - started - TICK_SECONDS
            self.longest = max(self.longest, late * 1000)
            used = (time.thread_time() - processor) * 1000
            self.longest_processor = max(self.longest_processor, used)


async def measure(url: str) -> dict[str, float]:
    """The figures of one start."""
    calls: Counter[str] = Counter()

    def on_call(kind: str, _status: int | None, _seconds: float) -> None:
        calls[kind] += 1

    store: AccountStore = NoAccountStore()
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ:
        kafka = load(KafkaSettings, dict(os.environ))
        config = producer_config(kafka, delivery_timeout=DELIVERY_SECONDS)
        publisher = TransactionalPublisher(transactional(config, transactional_id(kafka, "sink")))
        publisher.open()
        await asyncio.to_thread(publisher.take_over, TAKE_OVER_SECONDS)
        store = AccountTopic(kafka, topics(kafka).accounts.name, publisher)
    http = http_client()
    session = Session(ClientCredentials("id", "secret", url), http, on_call)
    async with SalesforceClient(session, http, on_call=on_call) as client:
        sync = Sync(client, Policy(), accounts=store)
        watch = LoopWatch()
        watching = asyncio.create_task(watch.watch())
        # The first use of the network and of the lists of domains loads modules.
        await session.token()
        registrable_domain("warm.example")
        await asyncio.sleep(2.0)
        unloaded = watch.longest
        watch.longest = watch.longest_processor = 0.0
        idle = resident_mb()
        forget_peak()
        started, worked = time.monotonic(), time.process_time()
        await sync.restore()
        restored = time.monotonic()
        await sync.start()
        ended = time.monotonic()
        peak, kept = peak_mb(), resident_mb()
        contact = {"emails": [{"email": "ada@mail.enterprise-000050.com"}], "surname": "L"}
        routed = sync.claims(ContactVersion("g/1", 1, contact))
        watching.cancel()
    return {
        **{f"calls {kind}": number for kind, number in calls.items()},
        "calls": calls.total(),
        "restore seconds": round(restored - started, 2),
        "start seconds": round(ended - restored, 2),
        "processor seconds": round(time.process_time() - worked, 2),
        "idle MB": round(idle, 1),
        "peak above idle MB": round(peak - idle, 1),
        "kept above idle MB": round(kept - idle, 1),
        "longest block ms": round(watch.longest, 1),
        "longest block ms before": round(unloaded, 1),
        "longest block ms of processor": round(watch.longest_processor, 1),
        "found": sum(one.startswith("001") for one in routed),
    }


if __name__ == "__main__":
    limit_malloc_arenas()
    freeze_startup_objects()
    print(json.dumps(uvloop.run(measure(sys.argv[1]))))
