"""A storm: every stage under load on a real Apache Kafka, a seeded schedule of faults, and the verdict on what came out.

    python -m tests.faults.storm --seed 1 --contacts 1000 --versions 40

prints a report that anyone can read and ends with 1 when a promise was broken.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from deploy.local.broker import Broker, make_broker, start_cluster
from tests.faults.load import GRANT, SECRET, Sender, notifications
from tests.faults.schedule import Fault, Step, schedule
from tests.faults.supervisor import REPOSITORY, Replica, Supervisor
from tests.faults.verifier import Evidence, Sample, Stored, Verdict, Write, verify
from tests.support.kafka import Found, Kafka
from tests.support.tcp_proxy import TcpProxy

SESSION = 6.0  # seconds; the product's default is 10, shorter makes more takeovers
QUIET_SECONDS = (
    240.0  # for what is under way when the faults end; a frozen stage and a broker's recovery fit many times
)
PARTITIONS = 4


@dataclass(frozen=True)
class Storm:
    """What a storm consists of."""

    seed: int
    contacts: int = 1000
    versions: int = 40
    rate: float = 600.0
    """Notifications a second at the most, so that the load lasts as long as the faults."""
    every: float = 3.0
    """Seconds from a fault to the next, on average."""
    only: Sequence[Fault] = ()
    nodes: int = 1
    """Of the Kafka cluster; with three, every topic has three replicas, and a node goes and comes while the others serve."""
    bridges: int = 2
    dedupes: int = 2
    sinks: int = 2
    variant: tuple[str, str] | None = None
    """A stage, and what is left out of it on purpose."""
    version_rule: bool = True
    env: tuple[tuple[str, str], ...] = ()


@dataclass
class Report:
    """What was done, what was counted, and the verdict."""

    storm: Storm
    verdict: Verdict
    faults: Counter[str]
    exits: dict[str, Counter[int]]
    sent: int
    acknowledged: int
    refused: int
    counts: dict[str, int]
    peaks: dict[str, int]
    seconds: float
    overstayed: int
    unquiet: str = ""
    unexpected: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.unquiet and not self.unexpected and not self.overstayed

    def text(self) -> str:
        """For people."""
        verdict = self.verdict
        lines = [
            f"storm with seed {self.storm.seed}: {self.seconds:.0f} s",
            "  faults      "
            + (", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items())) or "none"),
            f"  load        {self.sent:,} notifications, {self.acknowledged:,} answered with 200, {self.refused:,} refused and sent again",
            "  topics      " + ", ".join(f"{count:,} {name}" for name, count in self.counts.items()),
            "  restarts    "
            + ", ".join(f"{stage}: {_exits(exits)}" for stage, exits in sorted(self.exits.items()) if exits),
            "  memory      " + ", ".join(f"{stage} {size // 2**20} MB" for stage, size in sorted(self.peaks.items())),
            "  checked     " + ", ".join(f"{count:,} {what}" for what, count in verdict.checked.items()),
        ]
        if self.unquiet:
            lines.append(f"  STUCK       {self.unquiet}")
        lines += [f"  UNEXPECTED  {line}" for line in self.unexpected]
        if self.overstayed:
            lines.append(f"  OVERSTAYED  {self.overstayed} processes did not end within the grace period")
        for name, count in verdict.violations.items():
            lines.append(f"  VIOLATED    {name}: {count}")
            lines += [f"              {example}" for example in verdict.examples[name]]
        lines.append(f"  verdict     {'nothing lost, nothing reversed' if self.good else 'BROKEN'}")
        return "\n".join(lines)


def _exits(exits: Counter[int]) -> str:
    def name(code: int) -> str:
        return signal.Signals(-code).name if code < 0 else str(code)

    return " ".join(f"{count} x {name(code)}" for code, count in sorted(exits.items()))


class _Running:
    """The processes of a storm and everything that can be done to them."""

    def __init__(
        self, storm: Storm, folder: Path, brokers: Sequence[Broker], proxy: TcpProxy, stages: Supervisor, org: str
    ) -> None:
        self.storm, self.folder, self.brokers, self.proxy, self.stages, self.org = (
            storm,
            folder,
            brokers,
            proxy,
            stages,
            org,
        )
        self.bootstrap = ",".join(broker.direct for broker in brokers)
        self.kafka = Kafka(self.bootstrap, PREFIX)
        self.faults: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.background: set[asyncio.Task[None]] = set()

    def replica(self, stage: str, dice: float) -> Replica | None:
        found = self.stages.of(stage)
        return found[int(dice * len(found))] if found else None

    async def do(self, step: Step) -> None:
        """One step of the schedule."""
        fault, replica = step.fault, self.replica(step.target, step.dice)
        broker = self.brokers[int(step.dice * len(self.brokers))]
        self.faults[f"{fault.value} {step.target}" if fault in _OF_A_STAGE else fault.value] += 1
        match fault:
            case Fault.KILL if replica:
                replica.signal(signal.SIGKILL)
            case Fault.TERM if replica:
                replica.signal(signal.SIGTERM)
            case Fault.FREEZE if replica and replica.signal(signal.SIGSTOP):
                self._later(SESSION * 1.5 + step.seconds, lambda: replica.signal(signal.SIGCONT))
            case Fault.JOIN if len(self.stages.of("dedupe")) < PARTITIONS:
                self.stages.start("dedupe", variant=_variant(self.storm, "dedupe"))
            case Fault.LEAVE if len(self.stages.of("dedupe")) > self.storm.dedupes:
                leaving = self.stages.of("dedupe")[-1]
                self.stages.replicas.remove(leaving)
                self._task(self._leave(leaving))
            case Fault.ROLLING:
                self._task(self._roll(step.target))
            case Fault.BROKER_KILL:
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(step.seconds)
                await asyncio.to_thread(broker.start)
            case Fault.BROKER_STOP:
                await asyncio.to_thread(broker.stop)
                await asyncio.sleep(step.seconds)
                await asyncio.to_thread(broker.start)
            case Fault.BROKER_FREEZE:
                broker.pause()
                await asyncio.sleep(step.seconds * 3)
                broker.resume()
            case Fault.BLACK_HOLE:
                await asyncio.to_thread(self.proxy.black_hole)
                await asyncio.sleep(step.seconds * 2)
                await asyncio.to_thread(self.proxy.heal)
            case Fault.RESET:
                await asyncio.to_thread(self.proxy.reset)
            case Fault.POISON:
                await asyncio.to_thread(self._poison, step)
            case Fault.ORG:
                await self._org_fault(step)
            case _:
                pass

    def _later(self, seconds: float, do: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            do()

        self._task(wait())

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _leave(self, replica: Replica) -> None:
        await replica.end()
        self.left.append(replica)

    left: list[Replica]

    async def _roll(self, stage: str) -> None:
        for replica in list(self.stages.of(stage)):
            replica.signal(signal.SIGTERM)
            await asyncio.sleep(2.0)

    def _poison(self, step: Step) -> None:
        topic = ("contacts.events", "contacts.changes", "contacts.refetch", "grants.events", "reader.runs")[
            int(step.dice * 5)
        ]
        poison = (b"\xff\xfe", b"{}", b'{"type":"contact.updated"}', b"", b'"\\ud800"', b"[" * 5000)[
            int(step.dice * 1000) % 6
        ]
        number = (b"\xff", b"9" * 5000, b"1" + b"0" * 30)[int(step.dice * 10_000) % 3]
        headers: list[tuple[str, str | bytes | None]] = [("kind", b"updated"), ("version", number)]
        headers += [("received_ms", number), ("not_before", number)]
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        producer.produce(PREFIX + topic, poison, f"poison/{step.at}".encode(), headers=headers)
        producer.flush(10)

    async def _org_fault(self, step: Step) -> None:
        body = {"faults": [ORG_FAULTS[int(step.dice * len(ORG_FAULTS))]]}
        async with aiohttp.ClientSession() as http, http.post(f"{self.org}/_sim/faults", json=body) as answer:
            if answer.status >= 400:
                raise RuntimeError(await answer.text())

    async def weather(self, steps: Sequence[Step], until: asyncio.Event) -> None:
        """Goes through the schedule until it ends or the load does; then everything is healed."""
        began = time.monotonic()
        for step in steps:
            wait = began + step.at - time.monotonic()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), wait)
            if until.is_set():
                break
            await self.do(step)
        while self.background:
            await asyncio.wait(self.background)
        for broker in self.brokers:
            broker.resume()
        await asyncio.to_thread(self.proxy.heal)
        for replica in self.stages.replicas:
            replica.signal(signal.SIGCONT)

    async def watch(self) -> None:
        """Samples the committed offsets and the memory, as long as the storm lasts."""
        offsets = Offsets(self.bootstrap)
        while True:
            await asyncio.sleep(2.0)
            for replica in self.stages.replicas:
                replica.measure()
            if self.brokers[0].pid is None or len(self.samples) >= 200:
                continue
            try:
                self.samples.append(await asyncio.to_thread(offsets.sample))
            except KafkaException:
                continue


PREFIX = "storm."
_OF_A_STAGE = (Fault.KILL, Fault.TERM, Fault.FREEZE, Fault.ROLLING)

# What the stand-in for Salesforce is told to do; each passes by itself.
ORG_FAULTS: tuple[dict[str, Any], ...] = (
    {"effect": "status", "status": 500, "retry_after": 1, "times": 2},
    {"effect": "status", "status": 503, "retry_after": 1, "times": 3},
    {"effect": "status", "status": 429, "retry_after": 1, "times": 2},
    {"effect": "status", "status": 403, "retry_after": 1, "times": 2},
    {"effect": "status", "status": 503, "body": "html", "retry_after": 1, "times": 2},
    {"effect": "reset", "times": 3},
    {"effect": "cut_after", "kind": "composite_write", "times": 2},
    {"effect": "status_after", "status": 500, "kind": "composite_write", "times": 2},
    {"effect": "delay_after", "kind": "composite_write", "seconds": 4, "times": 2},
    {"effect": "short", "kind": "composite_write", "times": 1},
    {"effect": "short_rows", "kind": "composite_write", "times": 1},
    {"effect": "rows", "kind": "composite_write", "code": "UNABLE_TO_LOCK_ROW", "every": 50, "times": 2},
    {"effect": "expire", "times": 1},
)


def _variant(storm: Storm, stage: str) -> str | None:
    return storm.variant[1] if storm.variant is not None and storm.variant[0] == stage else None


class Offsets:
    """Offsets, asked as any operator could. By consumers that never join: librdkafka's admin client aborts the process
    (rd_kafka_enq_once_del_source_return) when a broker dies under a request of list_offsets.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumers = {
            stage: Consumer(
                {
                    "bootstrap.servers": bootstrap,
                    "group.id": f"{PREFIX}contactstream-{stage}",
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )
            for stage in ("dedupe", "sink")
        }

    def committed(self, stage: str, topic: str, partitions: int = 1) -> dict[int, int]:
        """Committed offsets of a stage's group."""
        wanted = [TopicPartition(PREFIX + topic, number) for number in range(partitions)]
        return {one.partition: max(0, one.offset) for one in self._consumers[stage].committed(wanted, timeout=3)}

    def ends(self, topic: str, partitions: int = 1) -> dict[int, int]:
        """End offsets of a topic."""
        ask = self._consumers["sink"].get_watermark_offsets
        return {number: ask(TopicPartition(PREFIX + topic, number), timeout=3)[1] for number in range(partitions)}

    def sample(self) -> Sample:
        """The committed offsets first, the ends of the result topics after them: what was committed had its result before."""
        dedupe, sink = (
            self.committed("dedupe", "contacts.events", PARTITIONS),
            self.committed("sink", "contacts.changes"),
        )
        return Sample(
            dedupe_committed=dedupe,
            sink_committed=sink[0],
            changes_end=self.ends("contacts.changes")[0],
            outcomes_end=self.ends("contacts.outcomes")[0],
            refetch_end=self.ends("contacts.refetch")[0],
            dead_letter_end=self.ends("contacts.dead-letter")[0],
        )

    def behind(self) -> int:
        """Records that dedupe and sink have not committed yet."""
        total = 0
        for stage, topic, partitions in (("dedupe", "contacts.events", PARTITIONS), ("sink", "contacts.changes", 1)):
            done, ends = self.committed(stage, topic, partitions), self.ends(topic, partitions)
            total += sum(end - done[number] for number, end in ends.items())
        return total

    def close(self) -> None:
        """Ends the clients."""
        for consumer in self._consumers.values():
            consumer.close()


async def run(storm: Storm, folder: Path) -> Report:
    """A storm from its first process to its verdict."""
    began = time.monotonic()
    load = notifications(storm.seed, storm.contacts, storm.versions).queue
    steps = schedule(storm.seed, len(load) / storm.rate * 3 + 60, storm.every, storm.only) if storm.every else []
    async with _started(storm, folder) as (running, sender):
        loaded = asyncio.Event()
        watching = asyncio.create_task(running.watch())
        weather = asyncio.create_task(running.weather(steps, loaded))
        await sender.send(load, storm.rate)
        loaded.set()
        await weather
        unquiet = await _quiet(running.bootstrap)
        watching.cancel()
        await running.stages.end()
        evidence = await _evidence(running, sender, unquiet)
        replicas = [*running.stages.replicas, *running.left]
    verdict = await asyncio.to_thread(verify, evidence)
    exits: dict[str, Counter[int]] = {}
    peaks: Counter[str] = Counter()
    for replica in replicas:
        exits.setdefault(replica.stage, Counter()).update(replica.exits)
        peaks[replica.stage] = max(peaks[replica.stage], replica.peak_rss)
    return Report(
        storm=storm,
        verdict=verdict,
        faults=running.faults,
        exits=exits,
        sent=len(load),
        acknowledged=len(sender.acknowledged),
        refused=sender.refused,
        counts={
            "events": len(evidence.events),
            "changes": len(evidence.changes),
            "outcomes": len(evidence.outcomes),
            "dead letters": len(evidence.dead_letters),
            "writes in the org": len(evidence.writes),
        },
        peaks=dict(peaks),
        seconds=time.monotonic() - began,
        overstayed=sum(replica.overstayed for replica in replicas),
        unquiet=unquiet,
        unexpected=[f"a bridge answered {status} to a good notification" for status in sorted(set(sender.odd))],
    )


@asynccontextmanager
async def _started(storm: Storm, folder: Path) -> AsyncIterator[tuple[_Running, Sender]]:
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(TcpProxy())
        brokers = await asyncio.to_thread(_brokers, storm.nodes, folder, proxy)
        for broker in brokers:
            stack.callback(broker.kill)
        org = await _org(stack, storm, folder)
        nylas = await _nylas(stack, folder)
        ports = [free_port() for _ in range(storm.bridges)]
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(broker.bootstrap for broker in brokers),
            "KAFKA_TOPIC_PREFIX": PREFIX,
            "KAFKA_EVENTS_PARTITIONS": str(PARTITIONS),
            "KAFKA_REPLICATION_FACTOR": str(storm.nodes),
            "NYLAS_API_URL": nylas,
            "NYLAS_API_KEY": "nyk_storm",
            "NYLAS_WEBHOOK_SECRETS": SECRET,
            "SALESFORCE_LOGIN_URL": org,
            "SALESFORCE_CLIENT_ID": "storm",
            "SALESFORCE_CLIENT_SECRET": "storm",
            "DEDUPE_SESSION_TIMEOUT": str(SESSION),
            "SINK_SESSION_TIMEOUT": str(SESSION),
            "SINK_LINGER": "0.3",
            "SINK_BULK_LINGER": "0.3",
            **dict(storm.env),
        }
        stages = Supervisor(folder, env)
        stack.push_async_callback(stages.end)
        await _command(
            stages, folder, {**env, "KAFKA_BOOTSTRAP_SERVERS": ",".join(broker.direct for broker in brokers)}
        )
        for port in ports:
            stages.start("bridge", env={"BRIDGE_LISTEN": f"127.0.0.1:{port}"}, variant=_variant(storm, "bridge"))
        for stage, count in (("dedupe", storm.dedupes), ("sink", storm.sinks), ("reader", 1)):
            for _ in range(count):
                stages.start(stage, variant=_variant(storm, stage))
        running = _Running(storm, folder, brokers, proxy, stages, org)
        running.left = []
        yield running, Sender([f"http://127.0.0.1:{port}/" for port in ports])


def _brokers(nodes: int, folder: Path, proxy: TcpProxy) -> Sequence[Broker]:
    """One node behind the proxy, or a cluster without one."""
    settings = {"group.min.session.timeout.ms": "1000", "group.initial.rebalance.delay.ms": "0"}
    if nodes > 1:
        return start_cluster(nodes, folder / "broker", settings=settings).brokers
    broker = make_broker(folder / "broker", advertised_port=proxy.port, settings=settings)
    proxy.target_port = broker.node.port
    broker.start()
    return [broker]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _command(stages: Supervisor, folder: Path, env: dict[str, str]) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "topics", "create", env={**stages.env, **env}, cwd=REPOSITORY
    )
    if await child.wait() != 0:
        raise RuntimeError("the topics could not be created")


async def _stand_in(stack: AsyncExitStack, folder: Path, name: str, world: dict[str, Any]) -> str:
    file = folder / f"{name}-world.json"
    file.write_text(json.dumps(world))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.cli", "simulate", name, "--listen", "127.0.0.1:0", "--world", str(file)),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    stack.push_async_callback(child.wait)
    stack.callback(child.terminate)
    if child.stdout is None:
        raise RuntimeError("no output")
    line = await asyncio.wait_for(child.stdout.readline(), 60)
    return line.decode().strip().rpartition(" ")[2]


async def _org(stack: AsyncExitStack, storm: Storm, folder: Path) -> str:
    settings = {"latency_ms_call": 20, "version_rule": storm.version_rule}
    return await _stand_in(
        stack, folder, "salesforce", {"accounts": [], "contacts": [], "leads": [], "settings": settings}
    )


async def _nylas(stack: AsyncExitStack, folder: Path) -> str:
    grants = [{"id": GRANT, "email": "storm@our-team.example", "provider": "google", "contacts": []}]
    return await _stand_in(stack, folder, "nylas", {"api_key": "nyk_storm", "grants": grants})


async def _quiet(bootstrap: str) -> str:
    """Waits until nothing is under way; what is still under way at the end of the patience, in words."""
    offsets = Offsets(bootstrap)
    deadline = time.monotonic() + QUIET_SECONDS
    left = -1
    while time.monotonic() < deadline:
        try:
            left = await asyncio.to_thread(offsets.behind)
        except KafkaException:
            left = -1
        if left == 0:
            return ""
        await asyncio.sleep(0.5)
    return f"{left} records were not committed {QUIET_SECONDS:.0f} s after the last fault"


def _stored(found: Sequence[Found]) -> list[Stored]:
    return [
        Stored(
            one.partition,
            one.offset,
            (one.key or b"").decode(errors="replace"),
            one.value,
            {name: value.decode(errors="replace") for name, value in one.headers.items()},
        )
        for one in found
    ]


async def _evidence(running: _Running, sender: Sender, unquiet: str) -> Evidence:
    topics = {
        name: _stored(await asyncio.to_thread(running.kafka.read, name))
        for name in (
            "contacts.events",
            "contacts.changes",
            "contacts.outcomes",
            "contacts.refetch",
            "contacts.dead-letter",
        )
    }
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{running.org}/_sim/writes") as answer:
            writes = await answer.json()
        records = []
        for sobject in ("Contact", "Lead"):
            async with http.get(f"{running.org}/_sim/records/{sobject}") as answer:
                records += await answer.json()
    every = max(1, len(running.samples) // 12)
    return Evidence(
        acknowledged=sender.acknowledged,
        events=topics["contacts.events"],
        changes=topics["contacts.changes"],
        outcomes=topics["contacts.outcomes"],
        refetch=topics["contacts.refetch"],
        dead_letters=topics["contacts.dead-letter"],
        writes=[Write(one["seq"], one["id"], one["key"], one["version"]) for one in writes],
        org=records,
        samples=[*running.samples[::every], *running.samples[-1:]],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=40)
    parser.add_argument("--rate", type=float, default=600.0)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between faults; 0 for none")
    parser.add_argument("--only", nargs="*", choices=[fault.name for fault in Fault], default=[])
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    good = True
    for seed in options.seed:
        folder = (options.folder or Path(tempfile.mkdtemp(prefix="contactstream-storm-"))) / str(seed)
        folder.mkdir(parents=True)
        storm = Storm(
            seed=seed,
            contacts=options.contacts,
            versions=options.versions,
            rate=options.rate,
            every=options.every,
            nodes=options.nodes,
            only=[Fault[name] for name in options.only],
        )
        report = asyncio.run(run(storm, folder))
        print(report.text(), f"\n  logs        {folder}", flush=True)
        good = good and report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
