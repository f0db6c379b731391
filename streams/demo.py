"""The whole product on one machine, in a story: a broker, stand-ins for Nylas and Salesforce, and every stage in a process of its own."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka.admin import AdminClient
from rich.console import Console

from connectors.nylas.simulator.people import address_books
from streams.demo_report import Evidence, parse_samples, report, table
from streams.kafka import client_config
from streams.lag import LagReader
from streams.settings import KafkaSettings, load
from streams.topic_reader import read_topic
from streams.topics import create, group, topics

START_SECONDS = 60.0  # one process to its readiness, on a slow machine: Faust needs a few seconds, the broker may have to be fetched
BROKER_SECONDS = 300.0  # the first start fetches Kafka
SYNC_SECONDS = 120.0  # the address books into Salesforce; takes seconds
QUIET_SECONDS = 60.0  # until nothing is under way any more
ORG_LATENCY_MS = 150  # what a call of a real org takes

REPOSITORY = Path(__file__).parent.parent
API_KEY = "nyk_demo"
BROKER = REPOSITORY / "deploy" / "local" / "broker.py"


class DemoFailed(RuntimeError):
    """The demo could not run. The text says why and where to look."""


class Process:
    """A child process whose output goes to a file, or is waited for."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.child, self.log = name, child, log

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the grace period that Kubernetes would give."""
        if self.child.returncode is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), 30)
        except TimeoutError:
            self.child.kill()
            await self.child.wait()


class Machine:
    """Starts the demo's processes and knows where each answers."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OPS_LOG_FORMAT": "json"}
        self.ops: dict[str, str] = {}
        self._stages: dict[str, Process] = {}
        self.http = httpx.AsyncClient(timeout=30)

    async def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Starts a process; what it says goes to `<folder>/<name>.log`, its output beside it. It is stopped when the demo ends."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as said, log.with_suffix(".out").open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdout=output,
                stderr=said,
                env={**self.env, **(env or {})},
                cwd=REPOSITORY,
            )
        process = Process(name, child, log)
        self._stack.push_async_callback(process.stop)
        return process

    async def stage(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Starts a stage and notes where its ops port is; `ready` waits for it."""
        port = free_port()
        self.ops[name] = f"http://127.0.0.1:{port}"
        self._stages[name] = await self.start(
            name, sys.executable, "-m", "streams.cli", name, env={"OPS_LISTEN": f"127.0.0.1:{port}", **(env or {})}
        )

    async def ready(self) -> None:
        """Waits until every stage says that it can work. Raises DemoFailed."""
        for name, url in self.ops.items():
            await self.until(partial(self._is_ready, name, url), START_SECONDS, f"{name} is not ready")

    async def _is_ready(self, name: str, url: str) -> bool:
        process = self._stages[name]
        if process.child.returncode is not None:
            raise DemoFailed(f"{name} ended with {process.child.returncode}; see {process.log}")
        try:
            return (await self.http.get(f"{url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def line(self, process: Process, seconds: float) -> str:
        """The first line that a process prints. Raises DemoFailed."""

        async def printed() -> bool:
            if process.child.returncode is not None:
                raise DemoFailed(f"{process.name} ended at once; see {process.log}:\n{process.log.read_text()[-2000:]}")
            return b"\n" in process.log.with_suffix(".out").read_bytes()

        await self.until(printed, seconds, f"{process.name} does not say where it listens")
        return process.log.with_suffix(".out").read_text().splitlines()[0]

    async def until(self, true: Callable[[], Awaitable[bool]], seconds: float, otherwise: str) -> None:
        """Waits until something holds. Raises DemoFailed after so many seconds."""
        deadline = time.monotonic() + seconds
        while not await true():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} after {seconds:.0f} s; the logs are in {self.folder}")
            await asyncio.sleep(0.05)

    async def get(self, url: str) -> Any:
        """The JSON of a GET."""
        answer = await self.http.get(url)
        answer.raise_for_status()
        return answer.json()

    async def send(self, method: str, url: str, body: Any) -> Any:
        """The JSON that a stand-in answers."""
        headers = {"Authorization": f"Bearer {API_KEY}"}  # asked by the Nylas stand-in, as by Nylas
        answer = await self.http.request(method, url, json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None


async def run(*, people: int, seed: int, as_json: bool, stay: bool) -> int:
    """Runs the story. Returns 0 when every number adds up, 1 when one does not, 2 when the demo could not run."""
    console = Console(stderr=as_json)
    say = partial(console.print, highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="contactstream-demo-"))
    async with AsyncExitStack() as stack:
        machine = Machine(folder, stack)
        stack.push_async_callback(machine.http.aclose)
        try:
            figures = await _story(machine, say, people, seed)
        except DemoFailed as error:
            console.print(f"[bold]The demo could not run:[/] {error}", highlight=False)
            return 2
        if as_json:
            sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        else:
            console.print(table(figures))
        if stay:
            await _stay(machine, say)
    return 1 if figures["problems"] else 0


async def _story(machine: Machine, say: Callable[[str], None], people: int, seed: int) -> dict[str, Any]:
    books, org = worlds(people, seed)
    say("starting a broker, Nylas, Salesforce, and the four stages, each in a process of its own ...")
    kafka = await _broker(machine)
    nylas = await _stand_in(machine, "nylas", books)
    salesforce = await _stand_in(machine, "salesforce", org)
    await asyncio.to_thread(create, AdminClient(client_config(kafka)), topics(kafka))

    secrets = machine.folder / "webhook-secrets"
    secrets.write_text("")
    secrets.chmod(0o600)
    port = free_port()
    machine.env |= {
        "NYLAS_API_URL": nylas,
        "NYLAS_API_KEY": API_KEY,
        "SALESFORCE_LOGIN_URL": salesforce,
        "SALESFORCE_CLIENT_ID": "demo",
        "SALESFORCE_CLIENT_SECRET": "demo",
    }
    await machine.stage("bridge", {"BRIDGE_LISTEN": f"127.0.0.1:{port}", "NYLAS_WEBHOOK_SECRETS_FILE": str(secrets)})
    for stage in ("dedupe", "sink", "reader"):
        await machine.stage(stage)
    await machine.ready()
    # As at Nylas: the challenge comes before the secret exists, and the bridge reads the secret without a restart.
    created = await machine.send(
        "POST",
        f"{nylas}/v3/webhooks",
        {"webhook_url": f"http://127.0.0.1:{port}/", "trigger_types": ["contact.updated", "contact.deleted"]},
    )
    secrets.write_text(created["data"]["webhook_secret"])
    before = (await machine.get(f"{salesforce}/_sim/state"))["records"]

    say(f"reading {people:,} people out of three address books ...")
    began = time.monotonic()
    backfill = await machine.start("backfill", sys.executable, "-m", "streams.cli", "backfill", "--all")
    try:
        status = await asyncio.wait_for(backfill.child.wait(), SYNC_SECONDS)
    except TimeoutError:
        raise DemoFailed(
            f"the backfill is not done after {SYNC_SECONDS:.0f} s; the logs are in {machine.folder}"
        ) from None
    if status != 0:
        raise DemoFailed(f"the backfill failed; see {backfill.log}")
    quiet = partial(_is_quiet, LagReader(client_config(kafka)), kafka)
    await machine.until(quiet, SYNC_SECONDS, "the first sync is not done")
    first_sync = time.monotonic() - began
    calls_first_sync = (await machine.get(f"{salesforce}/_sim/state"))["calls"]

    say("sending live notifications ...")
    sent = await _live(machine, nylas, books, seed)
    await machine.until(quiet, QUIET_SECONDS, "the live changes are not done")
    return report(
        await _evidence(machine, kafka, nylas, salesforce, people, sent, before, calls_first_sync, first_sync)
    )


async def _broker(machine: Machine) -> KafkaSettings:
    if not BROKER.exists():
        raise DemoFailed(
            "the demo runs from a checkout of the project: it starts the broker with deploy/local/broker.py"
        )
    process = await machine.start("broker", sys.executable, str(BROKER), "--json")
    bootstrap = json.loads(await machine.line(process, BROKER_SECONDS))["bootstrap_servers"]
    machine.env |= {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_TOPIC_PREFIX": f"demo-{int(time.time())}.",
    }
    return load(KafkaSettings, machine.env)


async def _stand_in(machine: Machine, name: str, world: Mapping[str, Any]) -> str:
    file = machine.folder / f"{name}-world.json"
    file.write_text(json.dumps(world))
    command = (sys.executable, "-m", "streams.cli", "simulate", name, "--listen", "127.0.0.1:0", "--world", str(file))
    process = await machine.start(name, *command)
    return (await machine.line(process, START_SECONDS)).rpartition(" ")[2]


async def _is_quiet(lags: LagReader, kafka: KafkaSettings) -> bool:
    """Whether nothing is under way between contacts.events and contacts.outcomes."""
    names = topics(kafka)
    for stage, topic in (("dedupe", names.events), ("sink", names.changes)):
        if await asyncio.to_thread(lags.lag, group(kafka, stage), topic.name, topic.partitions):
            return False
    return True


async def _live(machine: Machine, nylas: str, books: Mapping[str, Any], seed: int) -> Counter[str]:
    """Tells the story of a working day in notifications; returns how many told what."""
    choose = random.Random(seed + 1)  # noqa: S311
    contacts = [
        contact | {"grant_id": grant["id"], "object": "contact"}
        for grant in books["grants"]
        for contact in grant["contacts"]
    ]
    some = choose.sample(contacts, k=min(len(contacts), 80))
    changed, noted, gone = some[:40], some[40:60], some[60:65]
    now = int(time.time())
    sent: Counter[str] = Counter()

    async def notify(what: str, notifications: Sequence[dict[str, Any]]) -> None:
        sent[what] += len(notifications)
        await machine.send("POST", f"{nylas}/_sim/notify", {"notifications": list(notifications), "wait": True})

    def updated(contact: Mapping[str, Any], at: int, **fields: Any) -> dict[str, Any]:
        return {"object": {**contact, **fields}, "type": "contact.updated", "time": at}

    promotions = [
        updated(contact, now, job_title=f"Director {number}") | {"id": f"promotion-{number}", "gzip": number % 2 == 0}
        for number, contact in enumerate(changed)
    ]
    await notify("change", promotions)
    await notify("exact duplicate", promotions[:15])
    await notify(
        "same content, new event", [one | {"id": f"again-{one['id']}", "time": now + 1} for one in promotions[15:20]]
    )
    await notify("nothing that we map", [updated(contact, now, notes="Met at the fair.") for contact in noted])
    await notify("older after newer", [updated(contact, now - 30, job_title="Trainee") for contact in changed[:8]])
    await notify(
        "bad signature",
        [updated(contact, now + 2, job_title="Mallory") | {"signature": "bad"} for contact in changed[:3]],
    )
    grant = books["grants"][0]["id"]
    strangers = [
        {"id": f"new-{number}", "grant_id": grant, "given_name": "Nora", "surname": f"Newman{number}", "object": "contact",
         "emails": [{"email": f"nora.newman{number}@newcomers.example", "type": "work"}], "company_name": "Newcomers"}
        for number in range(10)
    ]  # fmt: skip
    await notify("new person", [updated(contact, now) for contact in strangers])
    ids = [{"id": contact["id"], "grant_id": contact["grant_id"], "object": "contact"} for contact in gone]
    await notify("deleted", [{"object": one, "type": "contact.deleted", "time": now} for one in ids])
    return sent


async def _evidence(
    machine: Machine,
    kafka: KafkaSettings,
    nylas: str,
    salesforce: str,
    people: int,
    sent: Counter[str],
    before: Mapping[str, int],
    calls_first_sync: Mapping[str, int],
    first_sync: float,
) -> Evidence:
    names = topics(kafka)
    pages = {name: parse_samples((await machine.http.get(f"{url}/metrics")).text) for name, url in machine.ops.items()}
    records = {
        topic.name.removeprefix(kafka.topic_prefix): await asyncio.to_thread(
            lambda name: list(read_topic(kafka, name)), topic.name
        )
        for topic in (names.events, names.changes, names.outcomes, names.dead_letter)
    }
    outcomes = [json.loads(record.value or b"{}") for record in records["contacts.outcomes"]]
    latency = [(one["at_ms"] - one["received_ms"]) / 1000 for one in outcomes if one["origin"] == "webhook"]
    org = await machine.get(f"{salesforce}/_sim/state")
    books = await machine.get(f"{nylas}/_sim/state?ids=false")
    return Evidence(
        people=people,
        sent=sent,
        answers={int(status): count for status, count in books["deliveries"]["by_status"].items()},
        records={name: len(found) for name, found in records.items()},
        bridge=pages["bridge"],
        reader=pages["reader"],
        dedupe=pages["dedupe"],
        sink=pages["sink"],
        nylas_calls=sum(books["calls"].values()),
        org_before=before,
        org_after=org["records"],
        calls_first_sync=calls_first_sync,
        calls_all=org["calls"],
        refused=sum(org["refusals"].values()),
        first_sync_seconds=first_sync,
        live_latency=latency,
    )


async def _stay(machine: Machine, say: Callable[[str], None]) -> None:
    say("\nEverything stays up; Ctrl-C ends it. Where to look:")
    for name, value in sorted(machine.env.items()):
        if name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC_PREFIX", "NYLAS_API_URL", "SALESFORCE_LOGIN_URL"):
            say(f"  {name}={value}")
    for name, url in machine.ops.items():
        say(f"  {name:8} {url}/metrics")
    say(f"  logs     {machine.folder}")
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worlds(people: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the stand-ins hold at first: three address books, and an org that knows some of the people already.

    Of those that the org knows, some are Contacts, some Leads, some Leads that were converted; some write their address in capitals.
    """
    choose = random.Random(seed)  # noqa: S311
    books = {"api_key": API_KEY, **address_books(seed, people)}
    contacts = [contact for book in books["grants"] for contact in book["contacts"]]
    companies = sorted(
        {domain_of(contact) for contact in contacts if contact.get("company_name") and contact.get("emails")}
    )
    known = [domain for position, domain in enumerate(companies) if position % 2 == 0]
    accounts = [
        {
            "Id": salesforce_id("001", number),
            "Name": domain.partition(".")[0].title(),
            "Website": f"https://www.{domain}/",
        }
        for number, domain in enumerate(known)
    ]
    account_of = {domain: account["Id"] for domain, account in zip(known, accounts, strict=True)}
    org: dict[str, list[dict[str, Any]]] = {"accounts": accounts, "contacts": [], "leads": []}
    seen: set[str] = set()
    for number, contact in enumerate(choose.sample(contacts, k=len(contacts) // 5)):
        if not contact.get("emails"):
            continue
        address = contact["emails"][0]["email"]
        if address.lower() in seen:
            continue
        seen.add(address.lower())
        record = {
            "LastName": contact.get("surname") or "Unknown",
            "Email": address.upper() if number % 3 == 0 else address,
        }
        account = account_of.get(domain_of(contact))
        if account is not None and number % 10 != 0:
            org["contacts"].append(record | {"AccountId": account})
        else:
            org["leads"].append(record | {"Company": contact.get("company_name") or "Unknown"})
    return books, org


def domain_of(contact: Mapping[str, Any]) -> str:
    """The domain of a contact's first address, or nothing."""
    emails = contact.get("emails") or [{"email": ""}]
    return str(emails[0]["email"]).rpartition("@")[2].lower()


def salesforce_id(prefix: str, number: int) -> str:
    """A 15-character record ID."""
    return f"{prefix}{number:012d}"
