"""Starts the system that a storm acts on: brokers, simulators, topics and every stage."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from confluent_kafka import Producer

from deploy.local.broker import Broker, free_ports, make_broker, start_cluster
from tests.faults.harness.load import BOOK_GRANT, SECRET, AddressBook, Load, grant_addresses
from tests.faults.harness.nylas_faults import RANDOM_FAULTS
from tests.faults.harness.settings import (
    LONGEST_CALL_SECONDS,
    NYLAS_AHEAD_SECONDS,
    PARTITIONS,
    SESSION_SECONDS,
    TOPIC_PREFIX,
    StormSettings,
)
from tests.faults.harness.simulators import (
    NYLAS_API_KEY,
    Simulator,
    start_nylas,
    start_salesforce,
)
from tests.faults.harness.supervisor import Supervisor
from tests.support.kafka import Kafka
from tests.support.paths import ROOT
from tests.support.tcp_proxy import TcpProxy

CONTROL_SECONDS = 60.0  # a request to a simulator's control plane, which answers with a whole org


@dataclass(frozen=True)
class StormLog:
    """The file in which a storm notes what it did when, to read beside the logs of the stages."""

    file: Path

    def note(self, text: str, at: float | None = None) -> None:
        """Adds a line with the time of day (UTC): now, or that of `at` in epoch seconds."""
        moment = time.gmtime(time.time() if at is None else at)
        with self.file.open("a") as lines:
            lines.write(f"{time.strftime('%H:%M:%S', moment)} {text}\n")


@dataclass(frozen=True)
class Environment:
    """The running system: everything that a fault can be done to or a result be read from."""

    settings: StormSettings
    brokers: Sequence[Broker]
    proxy: TcpProxy
    stages: Supervisor
    salesforce: Simulator
    nylas: Simulator
    book: AddressBook
    """What stands in the address book that is read page by page."""
    kafka: Kafka
    """Around the proxy."""
    producer: Producer
    """Around the proxy, and as patient as a broker's recovery takes."""
    bridge_urls: Sequence[str]
    log: StormLog


@asynccontextmanager
async def start_environment(
    settings: StormSettings, folder: Path, load: Load
) -> AsyncIterator[Environment]:
    """The running system; everything that was started ends with the block."""
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(TcpProxy())
        brokers = await asyncio.to_thread(_start_brokers, settings.nodes, folder, proxy)
        for broker in brokers:
            stack.callback(broker.kill)
        timeout = aiohttp.ClientTimeout(total=CONTROL_SECONDS)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        salesforce = await start_salesforce(stack, folder, http, version_rule=settings.version_rule)
        nylas = await start_nylas(stack, folder, http, load)
        env = _stage_environment(settings, brokers, salesforce, nylas)
        stages = Supervisor(folder, env, {"reader": NYLAS_AHEAD_SECONDS})
        stack.push_async_callback(stages.end)
        direct = _direct(brokers)
        kafka = Kafka(direct, TOPIC_PREFIX)
        await create_topics(stages.env, brokers)
        await asyncio.to_thread(kafka.produce, "grants.events", grant_addresses())
        book = AddressBook(settings.seed, settings.book_contacts)
        await _prepare_nylas(nylas, settings, book)
        ports = free_ports(settings.bridges)
        _start_stages(stages, settings, ports)
        producer = Producer(
            {"bootstrap.servers": direct, "partitioner": "murmur2_random", "log_level": 0}
        )
        yield Environment(
            settings=settings,
            brokers=brokers,
            proxy=proxy,
            stages=stages,
            salesforce=salesforce,
            nylas=nylas,
            book=book,
            kafka=kafka,
            producer=producer,
            bridge_urls=[f"http://127.0.0.1:{port}/" for port in ports],
            log=StormLog(folder / "faults.log"),
        )


def _start_brokers(nodes: int, folder: Path, proxy: TcpProxy) -> Sequence[Broker]:
    """One node behind the proxy, or a cluster without a proxy."""
    settings = {"group.min.session.timeout.ms": "1000", "group.initial.rebalance.delay.ms": "0"}
    if nodes > 1:
        return start_cluster(nodes, folder / "broker", settings=settings).brokers
    broker = make_broker(folder / "broker", advertised_port=proxy.port, settings=settings)
    proxy.target_port = broker.node.port
    broker.start()
    return [broker]


def _stage_environment(
    settings: StormSettings, brokers: Sequence[Broker], salesforce: Simulator, nylas: Simulator
) -> dict[str, str]:
    session = str(SESSION_SECONDS)
    return {
        "KAFKA_BOOTSTRAP_SERVERS": ",".join(broker.bootstrap for broker in brokers),
        "KAFKA_TOPIC_PREFIX": TOPIC_PREFIX,
        "KAFKA_EVENTS_PARTITIONS": str(PARTITIONS),
        "KAFKA_REPLICATION_FACTOR": str(settings.nodes),
        "NYLAS_API_URL": nylas.url,
        "NYLAS_API_KEY": NYLAS_API_KEY,
        "NYLAS_WEBHOOK_SECRETS": SECRET,
        "SALESFORCE_LOGIN_URL": salesforce.url,
        "SALESFORCE_MODE": "mirror",
        # what is lost is counted here, and held people would look like it
        "SINK_CREATIONS_PER_DAY": "0",
        "SINK_CREATIONS_PER_GRANT": "0",
        "SINK_REPLACED_VALUES_PER_HOUR": "0",
        "SALESFORCE_CLIENT_ID": "storm",
        "SALESFORCE_CLIENT_SECRET": "storm",
        "DEDUPE_SESSION_TIMEOUT": session,
        "SINK_SESSION_TIMEOUT": session,
        "SALESFORCE_LONGEST_CALL": str(LONGEST_CALL_SECONDS),
        "READER_SESSION_TIMEOUT": session,
        "SINK_LINGER": "0.3",
        "SINK_BULK_LINGER": "0.3",
        **dict(settings.env),
    }


def _direct(brokers: Sequence[Broker]) -> str:
    return ",".join(broker.direct for broker in brokers)


async def create_topics(env: Mapping[str, str], brokers: Sequence[Broker]) -> None:
    """Creates the topics that are missing, around the proxy. `env` is that of the stages."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.cli", "topics", "create"),
        stdout=asyncio.subprocess.DEVNULL,
        env={**env, "KAFKA_BOOTSTRAP_SERVERS": _direct(brokers)},
        cwd=ROOT,
    )
    if await child.wait() != 0:
        raise RuntimeError("`contactstream topics create` failed; its error is printed above")


async def _prepare_nylas(nylas: Simulator, settings: StormSettings, book: AddressBook) -> None:
    await nylas.send("/_sim/clock", {"offset": NYLAS_AHEAD_SECONDS})
    if settings.fault_interval:
        random = {"seed": settings.seed, **RANDOM_FAULTS}
        await nylas.send("/_sim/faults", {"random": random})
    contacts = list(book.truth.values())
    await nylas.send(
        "/_sim/contacts", {"grant_id": BOOK_GRANT, "upsert": contacts, "notify": False}
    )


def _start_stages(stages: Supervisor, settings: StormSettings, ports: Sequence[int]) -> None:
    for port in ports:
        stages.start(
            "bridge",
            env={"BRIDGE_LISTEN": f"127.0.0.1:{port}"},
            variant=settings.variant_of("bridge"),
        )
    replicas = {"dedupe": settings.dedupes, "sink": settings.sinks, "reader": settings.readers}
    for stage, count in replicas.items():
        for _ in range(count):
            stages.start(stage, variant=settings.variant_of(stage))
