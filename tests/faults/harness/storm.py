"""A storm: every stage under load on a real Apache Kafka, a seeded schedule of faults, and the
verdict on what came out.

    python -m tests.faults.harness.storm --seed 1 --contacts 1000 --versions 40

prints a report that anyone can read and ends with 1 when a promise was broken. Contacts come
through both doors: as signed notifications through the bridge, and page by page through the reader,
from an address book that changes all the while.
"""

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from deploy.local.broker import Broker, free_ports, make_broker, start_cluster
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.load import (
    ACCOUNTS,
    BOOK,
    GRANT,
    SECOND,
    SECRET,
    Book,
    Load,
    Sender,
    account_domain,
    envelope,
    grant_of,
    notifications,
    person,
)
from tests.faults.harness.schedule import (
    THROUGH_THE_PROXY,
    Fault,
    Step,
    first_pass,
    named,
    schedule,
)
from tests.faults.harness.supervisor import Replica, Supervisor
from tests.faults.harness.verifier import Book as ReadBook
from tests.faults.harness.verifier import Evidence, Sample, Stored, Verdict, Write, verify
from tests.support.kafka import Found, Kafka
from tests.support.paths import ROOT
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import until

SESSION = 6.0  # seconds; the product's default is 10, shorter makes more takeovers
QUIET_SECONDS = 900.0
"""For what is under way when the faults end: a frozen stage, a broker's recovery, a grant that
Nylas' faults have put aside for a minute, contacts that are read again at some a second, and the
reader's rest of twenty times what it took to look for heirs.
"""
PARTITIONS = 4
MOST_WORKERS = (
    PARTITIONS + 2
)  # those without a partition stand by, which is one more way to be in the middle of a rebalance
AHEAD = 620.0
"""Seconds by which Nylas and the reader are ahead of the other clocks. A contact is read again once
the page margin of ten minutes has passed since its event: so it has, at once, and a page's version
is of about the same second as the notifications beside it.
"""
LEAD = 15
"""Seconds by which the notifications' versions are ahead of the machine's clock, so that pages come
in between and not behind.
"""
LEAST_KILLS = 20
READY_SECONDS = 60.0  # a restart under load, with a table to restore
BOOK_SECONDS = 1.5  # between two changes of the address book
RUN_SECONDS = 6.0  # between two requests to read it
SAMPLE_SECONDS = 2.0
SLOWEST_SAMPLE = 20.0  # seconds from one sample to the next while the broker does not answer

EXPECTED_EXITS = (
    0,
    -signal.SIGKILL,
    -signal.SIGTERM,  # before the process has taken over the signal
    ExitCode.PAUSED_TOO_LONG,
    ExitCode.NOT_ACKNOWLEDGED,
    ExitCode.NO_HEARTBEAT,
    ExitCode.BROKER_UNAVAILABLE,  # dedupe, started while a broker goes down
)
"""Any other end of a stage is a fault that nobody foresaw, or a record that is missing."""


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
    whole: bool = True
    """Whether the first pass of the faults is gone through to its end, however soon the load is
    over.
    """
    book: int = 300
    """Contacts of the address book that is read page by page."""
    nodes: int = 1
    """Of the Kafka cluster; with three, every topic has three replicas, and a node goes and comes
    while the others serve.
    """
    bridges: int = 2
    dedupes: int = 2
    sinks: int = 2
    readers: int = 2
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
    kills: int
    """Processes that were sent SIGKILL or SIGTERM while the storm lasted."""
    exits: dict[str, Counter[int]]
    sent: int
    distinct: int
    acknowledged: int
    refused: int
    runs: Counter[str]
    counts: dict[str, int]
    peaks: dict[str, int]
    seconds: float
    overstayed: int
    unquiet: str = ""
    unexpected: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Faults of the first pass that never happened, where it was to be gone through."""
        storm = self.storm
        if not storm.whole or not storm.every:
            return []
        wanted = {named(*one) for one in first_pass(storm.only, proxy=storm.nodes == 1)}
        few = (
            []
            if storm.only or self.kills >= LEAST_KILLS
            else [f"{LEAST_KILLS} kills, there were {self.kills}"]
        )
        return sorted(wanted - self.faults.keys()) + few

    @property
    def good(self) -> bool:
        wrong = self.unquiet or self.unexpected or self.overstayed or self.missing
        return self.verdict.good and not wrong

    def text(self) -> str:
        """For people."""
        verdict = self.verdict
        lines = [
            f"storm with seed {self.storm.seed}, {self.storm.nodes} broker{'s' * (self.storm.nodes > 1)}: {self.seconds:.0f} s",
            f"  kills       {self.kills} processes were sent SIGKILL or SIGTERM",
            *_listed(self.faults),
            f"  load        {self.sent:,} notifications, {self.distinct:,} of them distinct; "
            f"{self.acknowledged:,} answers of 200, {self.refused:,} refused and sent again",
            "  reading     "
            + (
                ", ".join(f"{count} runs {state}" for state, count in sorted(self.runs.items()))
                or "no runs"
            ),
            "  topics      "
            + ", ".join(f"{count:,} {name}" for name, count in self.counts.items()),
            "  restarts    "
            + ", ".join(
                f"{stage}: {_exits(exits)}" for stage, exits in sorted(self.exits.items()) if exits
            ),
            "  memory      "
            + ", ".join(
                f"{stage} {size // 2**20} MB" for stage, size in sorted(self.peaks.items())
            ),
            "  checked     "
            + ", ".join(f"{count:,} {what}" for what, count in verdict.checked.items()),
        ]
        if self.unquiet:
            lines.append(f"  STUCK       {self.unquiet}")
        lines += [f"  MISSING     {line}" for line in self.missing]
        lines += [f"  UNEXPECTED  {line}" for line in self.unexpected]
        if self.overstayed:
            lines.append(
                f"  OVERSTAYED  {self.overstayed} processes did not end within the grace period"
            )
        for name, count in verdict.violations.items():
            lines.append(f"  VIOLATED    {name}: {count}")
            lines += [f"              {example}" for example in verdict.examples[name]]
        lines.append(f"  verdict     {'nothing lost, nothing reversed' if self.good else 'BROKEN'}")
        return "\n".join(lines)


def _listed(faults: Mapping[str, int]) -> list[str]:
    """A line for each kind of fault, with how often it came on each of its targets."""
    kinds: dict[str, list[str]] = {}
    for name, count in sorted(faults.items()):
        kind, _, target = name.partition(": ")
        kinds.setdefault(kind, []).append(f"{target} {count}" if target else str(count))
    lines = [f"{kind}: {', '.join(counts)}" for kind, counts in kinds.items()] or ["none"]
    return [f"  {'faults' if not place else '':<12}{line}" for place, line in enumerate(lines)]


def _exits(exits: Mapping[int, int]) -> str:
    return " ".join(f"{count} x {_exit_name(code)}" for code, count in sorted(exits.items()))


def _exit_name(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"{code} ({ExitCode(code).name.lower()})" if code in list(ExitCode) else str(code)


class _Running:
    """The processes of a storm and everything that can be done to them."""

    def __init__(
        self,
        storm: Storm,
        brokers: Sequence[Broker],
        proxy: TcpProxy,
        stages: Supervisor,
        org: str,
        nylas: str,
        http: aiohttp.ClientSession,
        diary: Path,
    ) -> None:
        self.storm, self.brokers, self.proxy, self.stages = storm, brokers, proxy, stages
        self.org, self.nylas, self.http, self.diary = org, nylas, http, diary
        self.bootstrap = ",".join(broker.direct for broker in brokers)
        self.kafka = Kafka(self.bootstrap, PREFIX)
        self.book = Book(storm.seed, storm.book)
        self.faults: Counter[str] = Counter()
        self.kills = 0
        self.samples: list[Sample] = []
        self.left: list[Replica] = []
        self.background: set[asyncio.Task[None]] = set()
        self.undone: list[str] = []
        self._runs = 0
        # Around the proxy, and as patient as a broker's recovery is long.
        self._producer = Producer(
            {"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", "log_level": 0}
        )

    def replica(self, stage: str, dice: float) -> Replica | None:
        found = self.stages.of(stage)
        return found[int(dice * len(found))] if found else None

    async def do(self, step: Step) -> bool:
        """One step of the schedule. Whether it could be done: what cannot be done is not counted."""
        began = time.time()
        done = await self._do(step)
        if done:
            self.faults[step.name] += 1
            self.note(f"{step.name}, {time.time() - began:.1f} s", began)
        return done

    def note(self, text: str, at: float | None = None) -> None:
        """Writes into the storm's diary, for whoever has to find out what led to what."""
        with self.diary.open("a") as diary:
            diary.write(f"{time.strftime('%H:%M:%S', time.gmtime(at or time.time()))} {text}\n")

    async def _do(self, step: Step) -> bool:
        fault, replica = step.fault, self.replica(step.target, step.dice)
        broker = self.brokers[int(step.dice * len(self.brokers))]
        workers = self.stages.of("dedupe")
        match fault:
            case Fault.KILL if replica:
                return self._killed(replica.signal(signal.SIGKILL))
            case Fault.TERM if replica:
                return self._killed(replica.terminate())
            case Fault.FREEZE if replica:
                if not replica.freeze():
                    return False
                self._later(SESSION * 1.5 + step.seconds, replica.thaw)
            case Fault.ROLLING:
                self._task(self._roll(step.target))
            case Fault.JOIN:
                if len(workers) >= PARTITIONS:
                    return False
                self._join()
            case Fault.LEAVE:
                if len(workers) <= self.storm.dedupes:
                    return False
                self._task(self._leave(workers[-1]))
            case Fault.BURST:
                if len(workers) + 2 > MOST_WORKERS:
                    return False
                self._task(self._burst())
            case Fault.CLOCK if replica:
                usual = self.stages.ahead(step.target)
                jumps = JUMPS[step.target]
                replica.set_clock(usual + jumps[int(step.dice * 100) % len(jumps)])
                self._later(step.seconds * 2, lambda: replica.set_clock(usual))
            case Fault.BROKER_KILL:
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(step.seconds)
                await asyncio.to_thread(broker.start)
            case Fault.BROKER_STOP:
                await asyncio.to_thread(broker.stop)
                await asyncio.sleep(step.seconds)
                await asyncio.to_thread(broker.start)
            case Fault.BROKER_FREEZE:
                await asyncio.to_thread(broker.pause)
                await asyncio.sleep(step.seconds * 3)
                broker.resume()
            case Fault.BLACK_HOLE:
                await asyncio.to_thread(self.proxy.black_hole)
                await asyncio.sleep(step.seconds * 2)
                await asyncio.to_thread(self.proxy.heal)
            case Fault.DELAY:
                self.proxy.delay = DELAY_SECONDS * (0.5 + step.dice)
                await asyncio.sleep(step.seconds * 2)
                await asyncio.to_thread(self.proxy.heal)
            case Fault.RESET:
                await asyncio.to_thread(self.proxy.reset)
            case Fault.POISON:
                await asyncio.to_thread(self._poison, step)
            case Fault.ORG:
                await self._org_fault(step)
            case Fault.NYLAS:
                await self.tell(
                    f"{self.nylas}/_sim/faults", {"rules": list(NYLAS_FAULTS[step.target])}
                )
            case _:
                return False
        return True

    def _killed(self, done: bool) -> bool:
        self.kills += done
        return done

    def _later(self, seconds: float, do: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            do()

        self._task(wait())

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.undone.append(f"a fault could not be carried out: {error!r}")

    def _join(self) -> Replica:
        return self.stages.start("dedupe", variant=_variant(self.storm, "dedupe"))

    async def _leave(self, replica: Replica) -> None:
        if replica in self.stages.replicas:
            self.stages.replicas.remove(replica)
            await replica.end()
            self.left.append(replica)

    async def _burst(self) -> None:
        """Two workers join, one leaves as soon as another comes, and so on: the group is never at
        rest.
        """
        one, other = self._join(), self._join()
        await other.ready(READY_SECONDS)
        third, _ = await asyncio.gather(self._ready_worker(), self._leave(one))
        await asyncio.gather(self._leave(other), self._leave(third))

    async def _ready_worker(self) -> Replica:
        worker = self._join()
        await worker.ready(READY_SECONDS)
        return worker

    async def _roll(self, stage: str) -> None:
        for replica in list(self.stages.of(stage)):
            await restart(replica, self.stages, self._killed)

    def _poison(self, step: Step) -> None:
        """What is no record of this topic: under a key of nobody, under none, under that of a real
        contact.
        """
        number = int(step.dice * self.storm.contacts)
        real = f"{grant_of(number)}/c{number}".encode()
        another = envelope(f"poison-{step.at}", int(time.time()), person(number + 1, "poison"))
        values = [b"\xff\xfe", b"[" * 5000, b'{"type":"contact.updated"}', b"", b'"\\ud800"', b"{}"]
        if (
            step.target != "contacts.changes"
        ):  # there it would be an erasure, which is none of the dead letters
            values.append(None)  # type: ignore[arg-type]
        if step.target == "contacts.events":
            values.append(another)
        digits = (b"1" + b"0" * 30, b"9" * 5000, b"\xff")
        for place, value in enumerate(values):
            absurd = digits[place % len(digits)]
            names = ["version", "received_ms", "not_before"]
            if (
                step.target == "contacts.dead-letter"
            ):  # elsewhere they would be believed, as those of a letter sent back
                names += ["dlq.original.offset", "dlq.original.partition"]
            headers: list[tuple[str, str | bytes | None]] = [
                ("kind", b"updated"),
                *((name, absurd) for name in names),
            ]
            nobody = f"poison/{step.at}".encode()
            key = (nobody, real, nobody if step.target in COMPACTED else None)[place % 3]
            self._producer.produce(PREFIX + step.target, value, key, headers=headers)
        self._producer.flush(10)

    async def _org_fault(self, step: Step) -> None:
        if step.target == "several at once":
            random = {
                "seed": self.storm.seed,
                "rates": SEVERAL,
                "kinds": WORK,
                "seconds": 2.0,
                "limit": 15,
            }
            await self.tell(f"{self.org}/_sim/faults/random", random, "PUT")
        else:
            await self.tell(f"{self.org}/_sim/faults", {"faults": [dict(ORG_FAULTS[step.target])]})

    async def tell(self, url: str, body: object, method: str = "POST") -> Any:
        """A stand-in's control plane."""
        async with self.http.request(method, url, json=body) as answer:
            if answer.status >= 400:
                raise RuntimeError(await answer.text())
            return await answer.json()

    async def ask(self, url: str) -> Any:
        """Likewise."""
        async with self.http.get(url) as answer:
            return await answer.json()

    async def weather(self, steps: Sequence[Step], loaded: asyncio.Event) -> None:
        """Goes through the schedule until the load ends, and to the end of the first pass where it
        is to be whole; then heals all.
        """
        began, late = time.monotonic(), 0.0
        for step in steps:
            bound_to_come = step.first and self.storm.whole
            wait = began + step.at + late - time.monotonic()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(_never() if bound_to_come else loaded.wait(), wait)
            if loaded.is_set() and not bound_to_come:
                break
            late = max(
                late, time.monotonic() - began - step.at
            )  # a fault that took long does not make the next ones come at once
            ends = time.monotonic() + READY_SECONDS
            while not await self.do(step) and step.first and time.monotonic() < ends:
                await asyncio.sleep(
                    0.5
                )  # nobody to do it to: a process is being started, a worker has not left yet
        while self.background:
            await asyncio.wait(self.background)
        for broker in self.brokers:
            broker.resume()
        await asyncio.to_thread(self.proxy.heal)
        for replica in self.stages.replicas:
            replica.thaw()

    async def live(self) -> None:
        """The life of the address book, and the runs that read it, until it is cancelled."""
        read = 0.0
        while True:
            await self.change_book()
            if time.monotonic() - read > RUN_SECONDS:
                read = time.monotonic()
                await self.request_run("backfill" if self._runs % 2 else "reconcile")
            await asyncio.sleep(BOOK_SECONDS)

    async def change_book(self) -> None:
        written, gone = self.book.change()
        change = {"grant_id": BOOK, "upsert": written, "delete": gone, "notify": False}
        await self.tell(f"{self.nylas}/_sim/contacts", change)

    async def request_run(self, kind: str) -> str:
        """Asks for the address book to be read, as the command does; the request is acknowledged
        when the broker is there.
        """
        self._runs += 1
        now = int(time.time() + AHEAD)
        run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind}-{self._runs:06}"
        run = {
            "kind": kind,
            "grants": [BOOK],
            "requested_at": now,
            "by": "storm",
            "max_delete_share": 1.0,
        }
        self._producer.produce(PREFIX + "reader.runs", json.dumps(run).encode(), run_id.encode())
        await asyncio.to_thread(self._producer.flush, 1.0)
        return run_id

    def runs(self) -> dict[str, str]:
        """The state of every run."""
        states: dict[str, str] = {}
        for record in self.kafka.read("reader.runs"):
            name = (record.key or b"").decode(errors="replace")
            with contextlib.suppress(ValueError, AttributeError, RecursionError):
                run = json.loads(record.value or b"")
                if "/" not in name and run.get("kind") in ("backfill", "reconcile"):
                    states[name] = run.get("state", "waiting")
        return states

    async def watch(self) -> None:
        """Samples the committed offsets and the memory, as long as the storm lasts."""
        offsets = Offsets(self.bootstrap)
        try:
            while True:
                await asyncio.sleep(SAMPLE_SECONDS)
                for replica in self.stages.replicas:
                    replica.measure()
                with contextlib.suppress(
                    KafkaException
                ):  # the broker is away, and nothing is committed
                    self.samples.append(await asyncio.to_thread(offsets.sample))
        finally:
            offsets.close()


async def _never() -> None:
    await asyncio.Event().wait()


PREFIX = "storm."
COMPACTED = ("contacts.changes", "contacts.outcomes", "grants.events", "reader.runs")
"""There the broker refuses a record without a key."""
DELAY_SECONDS = 0.2  # of each chunk, in each direction: a link across the world

DAY, HOUR = 86_400.0, 3600.0
# Dedupe's clock never jumps ahead: contacts would be read again so much later. Two days back, every
# event would lie too far ahead.
JUMPS: dict[str, Sequence[float]] = {
    "bridge": (HOUR, -HOUR, -2 * DAY),
    "dedupe": (-HOUR,),
    "sink": (HOUR, -HOUR, -2 * DAY),
    "reader": (HOUR, -HOUR),
}

REFUSAL = "this row is refused by the storm"

# What the stand-in for Salesforce is told to do; each passes by itself. Not to the login, after
# whose failure the sink waits a minute.
WORK = ["composite_query", "composite_write", "composite_mixed"]
ORG_FAULTS: dict[str, Mapping[str, Any]] = {
    "500": {"effect": "status", "kinds": WORK, "status": 500, "retry_after": 1, "times": 2},
    "503": {"effect": "status", "kinds": WORK, "status": 503, "retry_after": 1, "times": 3},
    "429": {"effect": "status", "kinds": WORK, "status": 429, "retry_after": 1, "times": 2},
    "403 concurrent": {
        "effect": "status",
        "kinds": WORK,
        "status": 403,
        "retry_after": 1,
        "times": 2,
    },
    "403 daily limit": {
        "effect": "status",
        "kinds": WORK,
        "status": 403,
        "code": "REQUEST_LIMIT_EXCEEDED",
        "message": "TotalRequests Limit exceeded.",
        "retry_after": 1,
        "times": 2,
    },
    "HTML": {
        "effect": "status",
        "kinds": WORK,
        "status": 503,
        "body": "html",
        "retry_after": 1,
        "times": 2,
    },
    "reset": {"effect": "reset", "kinds": WORK, "times": 3},
    "nothing": {"effect": "hang", "kinds": WORK, "seconds": 3, "times": 2},
    "cut after the work": {"effect": "cut_after", "kind": "composite_write", "times": 2},
    "500 after the work": {
        "effect": "status_after",
        "status": 500,
        "kind": "composite_write",
        "times": 2,
    },
    "late": {"effect": "delay_after", "kind": "composite_write", "seconds": 4, "times": 2},
    "parts missing": {"effect": "short", "kind": "composite_write", "times": 1},
    "rows missing": {"effect": "short_rows", "kind": "composite_write", "times": 1},
    "row locks": {
        "effect": "rows",
        "kind": "composite_write",
        "code": "UNABLE_TO_LOCK_ROW",
        "every": 50,
        "times": 2,
    },
    "rows refused for good": {
        "effect": "rows",
        "kind": "composite_write",
        "code": "INACTIVE_OWNER_OR_USER",
        "message": REFUSAL,
        "every": 200,
        "times": 40,
    },
    "session expired": {"effect": "expire", "times": 1},
}
# Those after which the sink waits for less than ten seconds; the simulator's random 503 names no
# Retry-After, which is a minute.
SEVERAL = {
    "reset": 0.1,
    "hang": 0.05,
    "delay_after": 0.1,
    "cut_after": 0.1,
    "short": 0.05,
    "short_rows": 0.05,
}
SEVERAL |= {"expire": 0.1, "lock": 0.02}

NYLAS_SHARE = 0.08  # of all calls, all the while
NYLAS_RANDOM = (
    *(
        "nylas_limit",
        "provider_limit",
        "server_error",
        "bad_gateway",
        "unavailable",
        "provider_timeout",
    ),
    *("empty", "text_error", "html", "truncated", "cut"),
)
NYLAS_FAULTS: dict[str, Sequence[Mapping[str, Any]]] = {
    "429": ({"kind": "nylas_limit", "times": 3},),
    "429 with Retry-After": ({"kind": "provider_limit", "retry_after": 2, "times": 3},),
    "500": ({"kind": "server_error", "times": 2}, {"kind": "unavailable", "times": 2}),
    "HTML": ({"kind": "html", "times": 2}, {"kind": "bad_gateway", "times": 2}),
    "nothing": ({"kind": "hang", "seconds": 3, "times": 2},),
    "cut": ({"kind": "cut", "times": 2}, {"kind": "truncated", "times": 2}),
    "cursor lost": ({"kind": "lost_cursor", "times": 1},),
    "pages that shift": ({"kind": "moved_missed", "times": 2}, {"kind": "moved_twice", "times": 1}),
}


def _variant(storm: Storm, stage: str) -> str | None:
    return storm.variant[1] if storm.variant is not None and storm.variant[0] == stage else None


async def restart(replica: Replica, stages: Supervisor, killed: Callable[[bool], bool]) -> None:
    """SIGTERM, and returns when it is ready again, or as soon as it has left the storm."""

    def gone() -> bool:
        return replica not in stages.replicas

    await until(
        lambda: gone() or killed(replica.terminate()),
        f"{replica.stage} can be stopped",
        READY_SECONDS,
    )
    before = replica.process
    await until(
        lambda: gone() or replica.process is not before,
        f"{replica.stage} is started again",
        READY_SECONDS,
    )
    if not gone():
        await replica.ready(READY_SECONDS)


class Offsets:
    """Offsets, asked as any operator could. By consumers that never join: librdkafka's admin client
    aborts the process (rd_kafka_enq_once_del_source_return) when a broker dies under a request of
    list_offsets.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumers = {
            name: Consumer(
                {
                    "bootstrap.servers": bootstrap,
                    "group.id": f"{PREFIX}contactstream-{name}",
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )
            for name in ("dedupe", "sink", "reader-work")
        }

    def committed(self, group: str, topic: str, partitions: int = 1) -> dict[int, int]:
        """Committed offsets of a group."""
        wanted = [TopicPartition(PREFIX + topic, number) for number in range(partitions)]
        return {
            one.partition: max(0, one.offset)
            for one in self._consumers[group].committed(wanted, timeout=3)
        }

    def ends(self, topic: str, partitions: int = 1) -> dict[int, int]:
        """End offsets of a topic."""
        ask = self._consumers["sink"].get_watermark_offsets
        return {
            number: ask(TopicPartition(PREFIX + topic, number), timeout=3)[1]
            for number in range(partitions)
        }

    def sample(self) -> Sample:
        """The committed offsets first, the ends of the result topics after them: what was committed
        had its result before.
        """
        dedupe = self.committed("dedupe", "contacts.events", PARTITIONS)
        sink = self.committed("sink", "contacts.changes")[0]
        reader = self.committed("reader-work", "contacts.refetch")[0]
        return Sample(
            dedupe_committed=dedupe,
            sink_committed=sink,
            changes_end=self.ends("contacts.changes")[0],
            outcomes_end=self.ends("contacts.outcomes")[0],
            refetch_end=self.ends("contacts.refetch")[0],
            dead_letter_end=self.ends("contacts.dead-letter")[0],
            reader_committed=reader,
            events_end=self.ends("contacts.events", PARTITIONS),
        )

    def behind(self) -> tuple[dict[str, int], int]:
        """By topic, the records that whoever reads it has not committed yet; and how many there are
        in all.
        """
        left: dict[str, int] = {}
        total = 0
        for group, topic, partitions in (
            ("dedupe", "contacts.events", PARTITIONS),
            ("sink", "contacts.changes", 1),
            ("reader-work", "contacts.refetch", 1),
            ("reader-work", "grants.events", 1),
            ("reader-work", "contacts.outcomes", 1),
        ):
            done, ends = self.committed(group, topic, partitions), self.ends(topic, partitions)
            total += sum(ends.values())
            if lag := sum(end - done[number] for number, end in ends.items()):
                left[topic] = lag
        return left, total

    def close(self) -> None:
        """Ends the clients."""
        for consumer in self._consumers.values():
            consumer.close()


async def run(storm: Storm, folder: Path) -> Report:
    """A storm from its first process to its verdict."""
    began = time.monotonic()
    step = storm.contacts / storm.rate
    load = notifications(storm.seed, storm.contacts, storm.versions, int(time.time()) + LEAD, step)
    steps = []
    if storm.every:
        seconds = len(load.queue) / storm.rate * 5 + 300
        steps = schedule(storm.seed, seconds, storm.every, storm.only, proxy=storm.nodes == 1)
    async with _started(storm, folder, load) as (running, sender):
        loaded = asyncio.Event()
        watching = asyncio.create_task(running.watch())
        living = asyncio.create_task(running.live())
        weather = asyncio.create_task(running.weather(steps, loaded))
        await _all_the_while(sender.send(load.queue, storm.rate), weather, living, watching)
        loaded.set()
        await _all_the_while(weather, living, watching)
        await _ended(living)
        await running.tell(f"{running.nylas}/_sim/faults", {"clear": True})
        unquiet = await _quiet(running)
        least = int((time.monotonic() - began) / SLOWEST_SAMPLE)
        await _ended(watching)
        runs = Counter((await asyncio.to_thread(running.runs)).values())
        await running.stages.end()
        evidence = await _evidence(running, sender, least)
        replicas = [*running.stages.replicas, *running.left]
    verdict = await asyncio.to_thread(verify, evidence)
    _keep_what_speaks_against(verdict, evidence, folder)
    exits: dict[str, Counter[int]] = {}
    peaks: Counter[str] = Counter()
    for replica in replicas:
        exits.setdefault(replica.stage, Counter()).update(replica.exits)
        peaks[replica.stage] = max(peaks[replica.stage], replica.peak_rss)
    unexpected = [
        f"a bridge answered {status} to a good notification" for status in sorted(set(sender.odd))
    ]
    unexpected += running.undone
    unexpected += [
        f"{stage} ended {count} times with {_exit_name(code)}"
        for stage, codes in sorted(exits.items())
        for code, count in sorted(codes.items())
        if code not in EXPECTED_EXITS
    ]
    return Report(
        storm=storm,
        verdict=verdict,
        faults=running.faults,
        kills=running.kills,
        exits=exits,
        sent=len(load.queue),
        distinct=len({one.id for one in load.queue}),
        acknowledged=len(sender.acknowledged),
        refused=sender.refused,
        runs=runs,
        counts={
            "events": len(evidence.events),
            "changes": len(evidence.changes),
            "outcomes": len(evidence.outcomes),
            "refetches": len(evidence.refetch),
            "dead letters": len(evidence.dead_letters),
            "writes in the org": len(evidence.writes),
        },
        peaks=dict(peaks),
        seconds=time.monotonic() - began,
        overstayed=sum(replica.overstayed for replica in replicas),
        unquiet=unquiet,
        unexpected=unexpected,
    )


async def _all_the_while(work: Any, *others: asyncio.Task[None]) -> None:
    """Waits for the work; raises what ends one of the others before it, so that none dies unseen."""
    task = asyncio.ensure_future(work)
    pending = {task, *others}
    while not task.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    task.result()


async def _ended(task: asyncio.Task[None]) -> None:
    """Ends a task that goes on for ever; raises what has ended it before."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _keep_what_speaks_against(verdict: Verdict, evidence: Evidence, folder: Path) -> None:
    """Of each contact that a violation names everything that is known of it, in the order of each
    topic, as `KEY.txt`.
    """
    named = {
        key
        for some in verdict.examples.values()
        for one in some
        for key in re.findall(r"[\w-]+/\w+", one)
    }
    for key in named:
        records = {one["Id"] for one in evidence.org if one.get("Nylas_Contact_Id__c") == key}
        records |= {write.record_id for write in evidence.writes if write.key == key}
        lines = [
            f"{topic} {one.partition}:{one.offset} {one.headers} {(one.value or b'').decode(errors='replace')}"
            for topic in ("events", "changes", "outcomes", "refetch", "dead_letters")
            for one in getattr(evidence, topic)
            if one.key == key
        ]
        lines += [f"write {write}" for write in evidence.writes if write.record_id in records]
        lines += [f"record {one}" for one in evidence.org if one["Id"] in records]
        (folder / f"{key.replace('/', '_')}.txt").write_text("\n".join(lines))


@asynccontextmanager
async def _started(
    storm: Storm, folder: Path, load: Load
) -> AsyncIterator[tuple[_Running, Sender]]:
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(TcpProxy())
        brokers = await asyncio.to_thread(_brokers, storm.nodes, folder, proxy)
        for broker in brokers:
            stack.callback(broker.kill)
        org = await _org(stack, storm, folder)
        nylas = await _nylas(stack, folder, load)
        ports = free_ports(storm.bridges)
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
            "READER_SESSION_TIMEOUT": str(SESSION),
            "SINK_LINGER": "0.3",
            "SINK_BULK_LINGER": "0.3",
            **dict(storm.env),
        }
        stages = Supervisor(folder, env, {"reader": AHEAD})
        stack.push_async_callback(stages.end)
        direct = {"KAFKA_BOOTSTRAP_SERVERS": ",".join(broker.direct for broker in brokers)}
        await _command({**stages.env, **direct})
        http = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        )
        running = _Running(storm, brokers, proxy, stages, org, nylas, http, folder / "faults.log")
        await running.tell(f"{nylas}/_sim/clock", {"offset": AHEAD})
        if storm.every:
            random = {"seed": storm.seed, "share": NYLAS_SHARE, "kinds": list(NYLAS_RANDOM)}
            await running.tell(f"{nylas}/_sim/faults", {"random": random})
        await running.tell(
            f"{nylas}/_sim/contacts",
            {"grant_id": BOOK, "upsert": list(running.book.truth.values()), "notify": False},
        )
        for port in ports:
            stages.start(
                "bridge",
                env={"BRIDGE_LISTEN": f"127.0.0.1:{port}"},
                variant=_variant(storm, "bridge"),
            )
        for stage, count in (
            ("dedupe", storm.dedupes),
            ("sink", storm.sinks),
            ("reader", storm.readers),
        ):
            for _ in range(count):
                stages.start(stage, variant=_variant(storm, stage))
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


async def _command(env: Mapping[str, str]) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.cli", "topics", "create"),
        stdout=asyncio.subprocess.DEVNULL,
        env=env,
        cwd=ROOT,
    )
    if await child.wait() != 0:
        raise RuntimeError("the topics could not be created")


async def _stand_in(stack: AsyncExitStack, folder: Path, name: str, world: dict[str, Any]) -> str:
    file, log = folder / f"{name}-world.json", folder / f"{name}.log"
    file.write_text(json.dumps(world))
    with log.open("wb") as output:  # not a pipe, which would be full one day
        child = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "streams.cli",
                "simulate",
                name,
                "--listen",
                "127.0.0.1:0",
                "--world",
                str(file),
            ),
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    stack.push_async_callback(child.wait)
    stack.callback(_terminate, child)

    def listening() -> str:
        return next(
            (
                line
                for line in log.read_text(errors="replace").splitlines()
                if " listening on " in line
            ),
            "",
        )

    line = await until(listening, f"{name} listens", 60.0)
    return str(line).rpartition(" ")[2]


def _terminate(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()


async def _org(stack: AsyncExitStack, storm: Storm, folder: Path) -> str:
    settings = {"latency_ms_call": 20, "version_rule": storm.version_rule}
    accounts = [
        {"Name": f"Account {number}", "Website": f"https://www.{account_domain(number)}"}
        for number in range(ACCOUNTS)
    ]
    return await _stand_in(
        stack, folder, "salesforce", {"accounts": accounts, "settings": settings}
    )


async def _nylas(stack: AsyncExitStack, folder: Path, load: Load) -> str:
    grants = [
        {
            "id": grant,
            "email": f"{grant}@our-team.example",
            "provider": "google",
            "contacts": [contact for contact in load.newest if contact["grant_id"] == grant],
        }
        for grant in (GRANT, SECOND, BOOK)
    ]
    # The faults come at random and not from Google's own limit, which would make a storm last for
    # hours.
    settings = {"google_per_minute": 0, "contacts_per_second": 0}
    return await _stand_in(
        stack, folder, "nylas", {"api_key": "nyk_storm", "grants": grants, "settings": settings}
    )


FINAL = ("done", "failed", "skipped", "merged")


async def _quiet(running: _Running) -> str:
    """Has the address book read a last time and waits until nothing is under way; what still is at
    the end of the patience, in words.
    """
    await asyncio.sleep(
        2.0
    )  # versions are whole seconds: the last reading is newer than the last change
    last = await running.request_run("reconcile")
    offsets = Offsets(running.bootstrap)
    deadline = time.monotonic() + QUIET_SECONDS
    left, before = "nothing was heard of the broker", -1
    try:
        while time.monotonic() < deadline:
            await asyncio.sleep(1.0)
            try:
                runs = await asyncio.to_thread(running.runs)
                behind, total = await asyncio.to_thread(offsets.behind)
            except (KafkaException, AssertionError) as error:
                left = f"the broker does not answer: {error}"
                continue
            if runs.get(last) == "failed":
                last = await running.request_run("reconcile")
            open_runs = sorted(name for name in {last, *runs} if runs.get(name) not in FINAL)
            left = ", ".join(
                [*(f"{lag} of {topic}" for topic, lag in behind.items()), *open_runs[:3]]
            )
            running.note(f"under way: {left or 'nothing'}")
            # A released record is offered to its heir, which is news again: nothing may have come
            # since the last look.
            if not left and total == before:
                return ""
            before = total
    finally:
        offsets.close()
    return f"{left}, {QUIET_SECONDS:.0f} s after the last fault"


def _stored(found: Sequence[Found]) -> list[Stored]:
    return [
        Stored(
            one.partition,
            one.offset,
            (one.key or b"").decode(errors="replace"),
            one.value,
            {name: value.decode(errors="replace") for name, value in one.headers.items()},
            one.timestamp_ms,
        )
        for one in found
    ]


async def _evidence(running: _Running, sender: Sender, least_samples: int) -> Evidence:
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
    writes = await running.ask(f"{running.org}/_sim/writes")
    state = await running.ask(f"{running.org}/_sim/state")
    records = []
    for sobject in ("Contact", "Lead"):
        records += await running.ask(f"{running.org}/_sim/records/{sobject}")
    code = str(ORG_FAULTS["rows refused for good"]["code"])
    return Evidence(
        acknowledged=sender.acknowledged,
        events=topics["contacts.events"],
        changes=topics["contacts.changes"],
        outcomes=topics["contacts.outcomes"],
        refetch=topics["contacts.refetch"],
        dead_letters=topics["contacts.dead-letter"],
        writes=[Write(one["seq"], one["id"], one["key"], one["version"]) for one in writes],
        org=records,
        samples=running.samples,
        least_samples=least_samples,
        grants=(GRANT, SECOND, BOOK),
        book=ReadBook(BOOK, running.book.truth),
        refusal=REFUSAL,
        refused=2 * state["refusals"].get(code, 0),  # a row may stand for a person of two grants
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=40)
    parser.add_argument("--rate", type=float, default=600.0)
    parser.add_argument(
        "--every", type=float, default=3.0, help="seconds between faults; 0 for none"
    )
    parser.add_argument("--only", nargs="*", choices=[fault.name for fault in Fault], default=[])
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    only = [Fault[name] for name in options.only]
    if options.nodes > 1 and (
        not_there := [fault.name for fault in only if fault in THROUGH_THE_PROXY]
    ):
        parser.error(f"a cluster stands behind no proxy: {', '.join(not_there)}")
    good = True
    for seed in options.seed:
        folder = (options.folder or Path(tempfile.mkdtemp(prefix="contactstream-storm-"))) / str(
            seed
        )
        folder.mkdir(parents=True)
        storm = Storm(
            seed=seed,
            contacts=options.contacts,
            versions=options.versions,
            rate=options.rate,
            every=options.every,
            nodes=options.nodes,
            only=only,
        )
        report = asyncio.run(run(storm, folder))
        print(report.text(), f"\n  logs        {folder}", flush=True)
        good = good and report.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
