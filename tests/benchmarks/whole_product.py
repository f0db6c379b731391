"""contactstream and the recipes at work between the simulators, for benchmarks of the whole flow.

`systems` starts them, each with an org of its own. A benchmark gives each of them the same work in
turn, and asks them the same questions.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from connectors.nylas.simulator.people import books, people
from deploy.local.broker import free_ports
from streams.settings import SinkSettings
from tests.benchmarks.flows import DAILY_CALLS
from tests.benchmarks.wrk import sending, write_requests
from tests.support.kafka import GroupObserver, Kafka
from tests.support.processes import Process, Processes
from tests.support.product import API_KEY, GRANT, SECRET, Product, product, start_simulator
from tests.support.waiting import wait_until
from tests.support.webhooks import envelope_body, request, sign

# Of each call to either service, and of each row that Salesforce writes.
CALL_SECONDS, ROW_SECONDS = 0.15, 0.002
DELAYS = f"{CALL_SECONDS * 1000:.0f} ms a call and {ROW_SECONDS * 1000:.0f} ms a written row"
LATENCIES = {"latency_ms_call": CALL_SECONDS * 1000, "latency_ms_row": ROW_SECONDS * 1000}
ORG = {"settings": LATENCIES | {"daily_limit": DAILY_CALLS}}
# The recipes may take as many calls as they like.
RECIPE_ORG = {"settings": LATENCIES | {"daily_limit": 1000 * DAILY_CALLS}}
RECIPES = {"GET and PATCH": 1, "Composites of 25": 25}
"""The names of the recipes, and how many contacts share their calls."""
PROVIDERS = ("google", "microsoft", "yahoo")

# More than a round takes on a machine that others use.
ROUND_SECONDS = 240.0
POLL_SECONDS = 0.05
# Of the sender of webhooks, as in bench_bridge.py.
CONNECTIONS = 64

# The tests' product has shorter ones.
DEFAULT_LINGERS = {
    "SINK_LINGER": str(SinkSettings.model_fields["linger"].default),
    "SINK_BULK_LINGER": str(SinkSettings.model_fields["bulk_linger"].default),
}
NO_LIMITS = dict.fromkeys(
    ("SINK_CREATIONS_PER_DAY", "SINK_CREATIONS_PER_GRANT", "SINK_REPLACED_VALUES_PER_HOUR"), "0"
)

Contact = Mapping[str, Any]


def distinct_people(label: str, count: int) -> list[Contact]:
    """New contacts of one grant. No two are the same person, nor are those of two labels."""
    return [
        _moved(contact, label) | {"id": f"{label}-{number:07}", "grant_id": GRANT}
        for number, contact in enumerate(people(1, count))
    ]


def address_books(label: str, count: int) -> list[dict[str, Any]]:
    """Three grants that hold so many people together, nobody twice."""
    return [
        {
            "id": f"{label}-{provider}",
            "email": f"{label}-{provider}@our-team.example",
            "provider": provider,
            "contacts": [_moved(contact, label) for contact in book],
        }
        for provider, book in zip(PROVIDERS, books(1, count, PROVIDERS, overlap=0.0), strict=True)
    ]


def _moved(contact: Contact, label: str) -> dict[str, Any]:
    """The contact with its addresses below other domains, which makes it another person."""
    emails = [
        each | {"email": each["email"].replace("@", f"@{label}.")} for each in contact["emails"]
    ]
    return dict(contact) | {"emails": emails}


def write_webhooks(path: Path, contacts: Sequence[Contact]) -> None:
    """Writes the requests by which Nylas notifies of these contacts, for wrk.py."""
    requests = []
    for contact in contacts:
        changes = {"id": f"n-{contact['id']}", "time": int(time.time())}
        raw = envelope_body("contact.updated", {"object": "contact"} | dict(contact), **changes)
        requests.append(request(raw, {"X-Nylas-Signature": sign(raw, SECRET)}))
    write_requests(path, requests)


@dataclass(frozen=True, slots=True)
class SimulatedOrg:
    """A simulated org, as a benchmark looks at it."""

    url: str
    http: httpx.Client

    def counted(self) -> tuple[int, int]:
        """How many calls it has taken, and how many writes."""
        state = self.http.get(f"{self.url}/_sim/state").json()
        return int(state["calls_total"]), int(state["writes"])

    def wait_writes(self, writes: int, check: Callable[[], None]) -> float:
        """When it had so many writes, in seconds since the epoch. Calls `check` meanwhile."""
        ends = time.monotonic() + ROUND_SECONDS
        while (found := self.counted()[1]) < writes:
            check()
            assert time.monotonic() < ends, f"{found} writes of {writes}"
            time.sleep(POLL_SECONDS)
        return time.time()

    def written_at(self, after: int) -> dict[str, float]:
        """When it stored each contact first, by its key, since the write numbered `after`."""
        found: dict[str, float] = {}
        answer = self.http.get(f"{self.url}/_sim/writes", params={"after": after})
        for write in answer.json():
            found.setdefault(write["key"], write["stored_at"])
        return found


@dataclass(frozen=True, slots=True)
class Work:
    """What a round of work took. Times are in seconds, and moments in seconds since the epoch."""

    began: float
    seconds: float
    calls: int
    processor: Mapping[str, float]
    """Processor seconds of each process."""
    written_at: Mapping[str, float]
    """When the org stored each contact, by its key."""


class System:
    """A program that brings contacts from Nylas into an org of its own."""

    def __init__(self, name: str, org: SimulatedOrg, port: int) -> None:
        self.name, self.org = name, org
        self.port = port
        """Where it takes webhooks."""

    def processes(self) -> Mapping[str, Process]:
        """Those that take webhooks, and bring contacts on."""
        raise NotImplementedError

    def wait_done(self) -> None:
        """Blocks until it has nothing left to do."""

    def start_first_sync(self, grants: Sequence[str]) -> Process:
        """Starts a command that has every contact of these grants brought into the org."""
        raise NotImplementedError

    def webhooks(self, requests: Path, count: int, *, rate: float = 0.0) -> Work:
        """Sends the webhooks of so many new contacts, and waits for all of them in the org.

        `rate` is in webhooks a second, 0 for as many as are answered.
        """
        before = self._state()
        connections = CONNECTIONS if rate == 0 or rate > CONNECTIONS else 1
        with sending(
            self.port,
            requests,
            count,
            rate=rate,
            connections=connections,
            seconds=ROUND_SECONDS,
        ) as sent:
            began, _ = sent.wait_answered(ROUND_SECONDS)
            return self._work(before, began, count)

    def first_sync(self, grants: Sequence[str], count: int) -> Work:
        """Has the contacts of these grants brought into the org, and waits for all of them."""
        before, began = self._state(), time.time()
        command = self.start_first_sync(grants)
        work = self._work(before, began, count, command)
        assert command.popen.wait(ROUND_SECONDS) == 0, command.log
        return self.with_command(work, command)

    def with_command(self, work: Work, command: Process) -> Work:
        """The work, with what its command took if that did more than to ask for it."""
        return work

    def _state(self) -> tuple[int, int, dict[str, float]]:
        return (*self.org.counted(), self._processor())

    def _processor(self) -> dict[str, float]:
        return {name: processor_seconds(one) for name, one in self.processes().items()}

    def _work(
        self,
        before: tuple[int, int, dict[str, float]],
        began: float,
        count: int,
        command: Process | None = None,
    ) -> Work:
        calls, writes, processor = before

        def check() -> None:
            for process in self.processes().values():
                assert process.exit_code is None, f"{process.name}:\n{process.log[-3000:]}"
            assert command is None or command.exit_code in (None, 0), command.log

        ended = self.org.wait_writes(writes + count, check)
        self.wait_done()
        return Work(
            began,
            ended - began,
            self.org.counted()[0] - calls,
            {name: used - processor[name] for name, used in self._processor().items()},
            self.org.written_at(writes),
        )

    def close(self) -> None:
        """Frees what it looked with."""


class ContactStream(System):
    """The four stages."""

    def __init__(self, running: Product, org: SimulatedOrg, port: int) -> None:
        super().__init__("contactstream", org, port)
        self._running = running
        group = f"{running.kafka.prefix}contactstream-sink"
        self._sink = GroupObserver(running.kafka, group, "contacts.changes")

    def processes(self) -> Mapping[str, Process]:
        """The stages by their names."""
        return self._running.stages

    def wait_done(self) -> None:
        """Until the sink has committed every change."""

        def committed() -> bool:
            return sum(self._sink.committed().values()) >= self._sink.end()

        wait_until(committed, "the sink has committed every change", ROUND_SECONDS)

    def close(self) -> None:
        """Closes the client of Kafka."""
        self._sink.close()

    def start_first_sync(self, grants: Sequence[str]) -> Process:
        """`contactstream backfill` for the grants."""
        return self._running.processes.start(
            "backfill", *(word for grant in grants for word in ("--grant", grant))
        )


class Recipe(System):
    """The program of recipe.py: a process that takes webhooks, and one for each first sync."""

    def __init__(
        self, name: str, per_call: int, org: SimulatedOrg, nylas: str, processes: Processes
    ) -> None:
        super().__init__(name, org, free_ports(1)[0])
        self._per_call, self._nylas, self._started = per_call, nylas, processes
        self._handler = self._start("webhooks", self.port, org.url, per_call, SECRET)
        wait_until(lambda: "ready" in self._handler.log, f"{name} takes webhooks")

    def processes(self) -> Mapping[str, Process]:
        """The handler."""
        return {"handler": self._handler}

    def start_first_sync(self, grants: Sequence[str]) -> Process:
        """A process that reads the pages, and writes what is on them."""
        return self._start("pages", self._nylas, API_KEY, self.org.url, self._per_call, *grants)

    def with_command(self, work: Work, command: Process) -> Work:
        """What the process that read and wrote has taken; the handler did nothing."""
        return replace(work, processor={"program": float(command.log.splitlines()[-1])})

    def _start(self, *arguments: object) -> Process:
        program = (sys.executable, "-m", "tests.benchmarks.recipe")
        return self._started.start(*map(str, arguments), command=program)


@contextmanager
def systems(
    kafka: Kafka, folder: Path, grants: Sequence[Mapping[str, Any]]
) -> Iterator[list[System]]:
    """contactstream and the recipes, ready to work, for as long as the block runs.

    All read the address books of `grants` at one simulated Nylas.
    """
    environ = DEFAULT_LINGERS | NO_LIMITS
    recipes = Processes(folder / "recipes", {})
    recipes.directory.mkdir()
    try:
        with product(kafka, folder, org=ORG, grants=grants, environ=environ) as running:
            delay = {"latency": CALL_SECONDS}
            running.http.post(f"{running.nylas}/_sim/settings", json=delay).raise_for_status()
            port = int(running.processes.environ["BRIDGE_LISTEN"].rpartition(":")[2])
            org = SimulatedOrg(running.salesforce, running.http)
            found: list[System] = [ContactStream(running, org, port)]
            for name, per_call in RECIPES.items():
                url = start_simulator(recipes, recipes.directory, "salesforce", RECIPE_ORG)
                org = SimulatedOrg(url, running.http)
                found.append(Recipe(name, per_call, org, running.nylas, recipes))
            try:
                yield found
            finally:
                for system in found:
                    system.close()
    finally:
        recipes.end()
        print(recipes.logs())


def processor_seconds(process: Process) -> float:
    """What a process has used so far."""
    used = psutil.Process(process.pid).cpu_times()
    return float(used.user + used.system)
