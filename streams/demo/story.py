"""The whole product on one machine, in a story: a broker, stand-ins for Nylas and Salesforce, and
every stage in a process of its own.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console

from streams.demo.report import Evidence, parse_samples, report, table
from streams.demo.world import API_KEY, Story, cast, story, worlds
from streams.kafka.admin import create, refusal
from streams.kafka.clients import client_config
from streams.kafka.lag import LagReader
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.runtime.signals import stop_asked
from streams.settings import GROUPS, KafkaSettings, SettingsError, load
from streams.topics import group, topics

# All bounds are for a machine that does other things as well: whoever waits for longer than usual
# still gets an answer.
START_SECONDS = 120.0  # one process to its readiness: Faust needs a few seconds
BROKER_SECONDS = 720.0  # the first start fetches Kafka, for which the broker's own bound is 600 s
SYNC_SECONDS, SYNC_PEOPLE_A_SECOND = (
    180.0,
    50,
)  # the address books into Salesforce; a machine may be much slower than usual
QUIET_SECONDS = 120.0  # until nothing is under way any more
CALL_SECONDS = (
    90.0  # one call of a stand-in: Nylas' waits up to 60 s for its notifications to be delivered
)
STOP_SECONDS = 30.0  # the grace period that Kubernetes gives
GROUP_SECONDS = 40.0  # until a group is empty: its member left, or its session ran out
# Nobody stands by to take over, and a stage that the machine lets stand still for 5 s is not to end
# itself.
SESSION_SECONDS = 30

OK, DOES_NOT_ADD_UP, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130

REPOSITORY = Path(__file__).parents[2]
BROKER = REPOSITORY / "deploy" / "local" / "broker.py"

Say = Callable[[str], None]


class DemoFailed(RuntimeError):
    """The demo could not run. The text says why and where to look."""


class Process:
    """A child process whose output goes to a file, or is waited for."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.child, self.log = name, child, log

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after the grace period."""
        if self.child.returncode is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), STOP_SECONDS)
        except TimeoutError:
            self.child.kill()
            await self.child.wait()


class Machine:
    """Starts the demo's processes and knows where each answers."""

    def __init__(self, folder: Path, stack: AsyncExitStack, env: Mapping[str, str]) -> None:
        self.folder, self._stack = folder, stack
        self.env = dict(env)
        self.ops: dict[str, str] = {}
        self._stages: dict[str, Process] = {}
        self.http = httpx.AsyncClient(timeout=CALL_SECONDS, trust_env=False)

    async def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a process; what it says goes to `<folder>/<name>.log`, its output beside it. It is
        stopped when the demo ends.
        """
        from deploy.local.broker import dying_with_parent

        log = self.folder / f"{name}.log"
        with log.open("wb") as said, log.with_suffix(".out").open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *dying_with_parent(list(command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=said,
                env={**self.env, **(env or {})},
                cwd=REPOSITORY,
                # Ctrl-C is for the demo, which stops the stages before what they need
                start_new_session=True,
            )
        process = Process(name, child, log)
        self._stack.push_async_callback(process.stop)
        return process

    def on_end(self, call: Callable[[], Awaitable[None]]) -> None:
        """`call` is awaited once what starts from now on has been stopped."""
        self._stack.push_async_callback(call)

    async def stage(self, name: str, port: int, env: Mapping[str, str] | None = None) -> None:
        """Starts a stage whose ops port this is; `ready` waits for it."""
        self.ops[name] = f"http://127.0.0.1:{port}"
        self._stages[name] = await self.start(
            name,
            sys.executable,
            "-m",
            "streams.cli",
            name,
            env={"OPS_LISTEN": f"127.0.0.1:{port}", **(env or {})},
        )

    async def ready(self) -> None:
        """Waits until every stage says that it can work. Raises DemoFailed."""
        for name, url in self.ops.items():
            await self.until(partial(self._is_ready, url), START_SECONDS, f"{name} is not ready")

    async def _is_ready(self, url: str) -> bool:
        try:
            return (await self.http.get(f"{url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def line(self, process: Process, seconds: float) -> str:
        """The first line that a process prints. Raises DemoFailed."""

        async def printed() -> bool:
            if process.child.returncode is not None:
                said = process.log.read_text(errors="replace")
                raise DemoFailed(
                    f"{process.name} ended with {process.child.returncode}:\n{said[-2000:]}"
                )
            return b"\n" in process.log.with_suffix(".out").read_bytes()

        await self.until(printed, seconds, f"{process.name} does not say where it listens")
        return process.log.with_suffix(".out").read_text().splitlines()[0]

    async def until(
        self, true: Callable[[], Awaitable[bool]], seconds: float, otherwise: str
    ) -> None:
        """Waits until something holds. Raises DemoFailed after so many seconds, or as soon as a
        stage has ended.
        """
        deadline = time.monotonic() + seconds
        while not await true():
            for name, stage in self._stages.items():
                if stage.child.returncode is not None:
                    raise DemoFailed(
                        f"{name} ended with {stage.child.returncode}; see {stage.log.name}"
                    )
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} after {seconds:.0f} s")
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


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without any setting of contactstream: the demo is the same whatever its user
    has set up.
    """
    ours = tuple(f"{group.prefix}_" for group in GROUPS)
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith((*ours, "CONTACTSTREAM_"))
    }
    return kept | {"PYTHONPATH": str(REPOSITORY), "OPS_LOG_FORMAT": "json"}


def given_cluster(environ: Mapping[str, str]) -> str:
    """The user's own cluster, or nothing. Raises DemoFailed for one that asks for more than the
    demo's processes are given.
    """
    given = environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if given and (protocol := load(KafkaSettings, environ).security_protocol) != "PLAINTEXT":
        raise DemoFailed(
            f"the cluster of KAFKA_BOOTSTRAP_SERVERS wants {protocol}, and the demo speaks only PLAINTEXT; "
            "unset KAFKA_BOOTSTRAP_SERVERS, and it starts a broker of its own"
        )
    return given


async def run(*, people: int, seed: int, as_json: bool, stay: bool) -> int:
    """Runs the story. Returns OK, DOES_NOT_ADD_UP, COULD_NOT_RUN (with the reason on the console)
    or INTERRUPTED.

    The folder with the logs is kept unless all went well.
    """
    console = Console(stderr=as_json)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="contactstream-demo-"))
    this = asyncio.current_task()
    if this is not None:  # SIGINT cancels it already
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        async with AsyncExitStack() as stack:
            given = given_cluster(os.environ)
            machine = Machine(folder, stack, clean(os.environ))
            stack.push_async_callback(machine.http.aclose)
            figures = await _story(machine, say, given, people, seed)
            if as_json:
                sys.stdout.write(json.dumps(figures, indent=2) + "\n")
                sys.stdout.flush()
            else:
                console.print(table(figures))
            if stay:
                await _stay(machine, say)
        status = DOES_NOT_ADD_UP if figures["problems"] else OK
    except asyncio.CancelledError:
        status = INTERRUPTED
    except (DemoFailed, SettingsError, KafkaException, httpx.HTTPError, OSError) as error:
        say(f"the demo could not run: {_in_words(error)}")
        status = COULD_NOT_RUN
    except (
        Exception
    ) as error:  # a fault of the demo: status 1 would say that a number does not add up
        (folder / "demo.log").write_text(traceback.format_exc())
        say(f"the demo could not run: {error!r}; see demo.log")
        status = COULD_NOT_RUN
    if status == OK and not stay:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"the logs are in {folder}")
    return status


def _in_words(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return refusal(error) if isinstance(error.args[0], KafkaError) else str(error)
    return str(error) or type(error).__name__


async def _story(machine: Machine, say: Say, given: str, people: int, seed: int) -> dict[str, Any]:
    books, org = worlds(people, seed)
    say(
        "starting a broker, Nylas, Salesforce, and the four stages, each in a process of its own ..."
    )
    kind, kafka = await _broker(machine, say, given)
    nylas = await _stand_in(machine, "nylas", books)
    salesforce = await _stand_in(machine, "salesforce", org)
    await asyncio.to_thread(create, AdminClient(client_config(kafka)), topics(kafka).all())

    from deploy.local.broker import free_ports

    port, *ops = free_ports(5)
    secret_file = machine.folder / "webhook-secrets"
    secret_file.write_text("")
    secret_file.chmod(0o600)
    machine.env |= {
        "NYLAS_API_URL": nylas,
        "NYLAS_API_KEY": API_KEY,
        "SALESFORCE_LOGIN_URL": salesforce,
        "SALESFORCE_CLIENT_ID": "demo",
        "SALESFORCE_CLIENT_SECRET": "demo",
    }
    machine.env |= {
        f"{stage}_SESSION_TIMEOUT": str(SESSION_SECONDS) for stage in ("DEDUPE", "SINK", "READER")
    }
    listening = {
        "BRIDGE_LISTEN": f"127.0.0.1:{port}",
        "NYLAS_WEBHOOK_SECRETS_FILE": str(secret_file),
    }
    for stage, ops_port in zip(("bridge", "dedupe", "sink", "reader"), ops, strict=True):
        await machine.stage(stage, ops_port, listening if stage == "bridge" else None)
    await machine.ready()
    # As at Nylas: the challenge comes before the secret exists, and the bridge reads the secret
    # without a restart.
    created = await machine.send(
        "POST",
        f"{nylas}/v3/webhooks",
        {
            "webhook_url": f"http://127.0.0.1:{port}/",
            "trigger_types": ["contact.updated", "contact.deleted"],
        },
    )
    secret_file.write_text(created["data"]["webhook_secret"])
    before = (await machine.get(f"{salesforce}/_sim/state"))["records"]

    say(f"reading {people:,} people out of three address books ...")
    began = time.monotonic()
    seconds = SYNC_SECONDS + people / SYNC_PEOPLE_A_SECOND
    await _backfill(machine, seconds)
    quiet = partial(_is_quiet, LagReader(client_config(kafka)), kafka)
    await machine.until(quiet, seconds, "the first sync is not done")
    first_sync = time.monotonic() - began
    calls_first_sync = (await machine.get(f"{salesforce}/_sim/state"))["calls"]

    say("sending live notifications ...")
    told = story(cast(books, org, seed), books["grants"][0]["id"], int(time.time()))
    for _, notifications in told.chapters:
        await machine.send(
            "POST", f"{nylas}/_sim/notify", {"notifications": list(notifications), "wait": True}
        )
    await machine.until(quiet, QUIET_SECONDS, "the live changes are not done")
    return report(
        await _evidence(
            machine,
            kind,
            kafka,
            nylas,
            salesforce,
            people,
            told,
            before,
            calls_first_sync,
            first_sync,
        )
    )


async def _broker(machine: Machine, say: Say, given: str) -> tuple[str, KafkaSettings]:
    """The kind of the broker, and how our processes reach it."""
    if not BROKER.exists():
        raise DemoFailed(
            "the demo runs from a checkout of the project: it starts the broker with deploy/local/broker.py"
        )
    env = {"KAFKA_BOOTSTRAP_SERVERS": given} if given else {}
    process = await machine.start("broker", sys.executable, str(BROKER), "--json", env=env)
    served = json.loads(await machine.line(process, BROKER_SECONDS))
    if served["kind"] == "tansu":
        say("no Kafka is to be had on this machine:")
    if served["kind"] == "tansu" or (given and served["kind"] != "given"):
        for reason in served["passed_over"]:
            say(f"- {reason}")
    say(f"the broker: {served['note']}")
    machine.env |= {
        "KAFKA_BOOTSTRAP_SERVERS": served["bootstrap_servers"],
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_TOPIC_PREFIX": f"demo-{secrets.token_hex(4)}.",
    }
    kafka = load(KafkaSettings, machine.env)
    if served["kind"] == "given":
        machine.on_end(partial(_leave_nothing, kafka, say))
    return served["kind"], kafka


async def _leave_nothing(kafka: KafkaSettings, say: Say) -> None:
    """Deletes what the demo made in a cluster that is not its own; says what it could not delete."""
    try:
        await asyncio.to_thread(_delete, kafka)
    except KafkaException as error:
        say(
            f"topics or groups that begin with {kafka.topic_prefix} are left in the cluster: {_in_words(error)}"
        )


def _delete(kafka: KafkaSettings) -> None:
    admin = AdminClient(client_config(kafka))
    deadline = time.monotonic() + GROUP_SECONDS
    while groups := [
        one.group_id
        for one in admin.list_consumer_groups(request_timeout=STOP_SECONDS).result().valid
        if one.group_id.startswith(kafka.topic_prefix)
    ]:
        for future in admin.delete_consumer_groups(groups, request_timeout=STOP_SECONDS).values():
            try:
                future.result()
            except (
                KafkaException
            ) as error:  # a member that had to be killed is one until its session ends
                if (
                    error.args[0].code() != KafkaError.NON_EMPTY_GROUP
                    or time.monotonic() > deadline
                ):
                    raise
        time.sleep(0.2)
    names = [
        name
        for name in admin.list_topics(timeout=STOP_SECONDS).topics
        if name.startswith(kafka.topic_prefix)
    ]
    for future in admin.delete_topics(names, request_timeout=STOP_SECONDS).values():
        future.result()


async def _stand_in(machine: Machine, name: str, world: Mapping[str, Any]) -> str:
    file = machine.folder / f"{name}-world.json"
    file.write_text(json.dumps(world))
    command = (
        sys.executable,
        "-m",
        "streams.cli",
        "simulate",
        name,
        "--listen",
        "127.0.0.1:0",
        "--world",
        str(file),
    )
    process = await machine.start(name, *command)
    return (await machine.line(process, START_SECONDS)).rpartition(" ")[2]


async def _backfill(machine: Machine, seconds: float) -> None:
    process = await machine.start(
        "backfill", sys.executable, "-m", "streams.cli", "backfill", "--all"
    )

    async def over() -> bool:
        return process.child.returncode is not None

    await machine.until(over, seconds, "the backfill is not done")
    if process.child.returncode != 0:
        raise DemoFailed(
            f"the backfill ended with {process.child.returncode}; see {process.log.name}"
        )


async def _is_quiet(lags: LagReader, kafka: KafkaSettings) -> bool:
    """Whether nothing is under way between contacts.events and contacts.outcomes."""
    names = topics(kafka)
    try:
        for stage, topic in (("dedupe", names.events), ("sink", names.changes)):
            if await asyncio.to_thread(lags.lag, group(kafka, stage), topic.name, topic.partitions):
                return False
    except KafkaException:  # one answer that took too long; the next look may get its own
        return False
    return True


async def _evidence(
    machine: Machine,
    broker: str,
    kafka: KafkaSettings,
    nylas: str,
    salesforce: str,
    people: int,
    told: Story,
    before: Mapping[str, int],
    calls_first_sync: Mapping[str, int],
    first_sync: float,
) -> Evidence:
    names = topics(kafka)
    pages = {
        name: parse_samples((await machine.http.get(f"{url}/metrics")).text)
        for name, url in machine.ops.items()
    }

    async def records(topic: str) -> list[KafkaRecord]:
        return await asyncio.to_thread(
            lambda: list(read_to_end(kafka, topic, since=0.0, within=QUIET_SECONDS))
        )

    found = {
        topic.name.removeprefix(kafka.topic_prefix): await records(topic.name)
        for topic in (names.events, names.changes, names.outcomes, names.dead_letter)
    }
    outcomes = [json.loads(record.value or b"{}") for record in found["contacts.outcomes"]]
    by_object: dict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        by_object[one["outcome"]][one["sobject"] or ""] += 1
    org = await machine.get(f"{salesforce}/_sim/state")
    standing = [
        record
        for sobject in ("Contact", "Lead")
        for record in await machine.get(f"{salesforce}/_sim/records/{sobject}")
    ]
    titles = {record.get("Nylas_Contact_Id__c"): record.get("Title") for record in standing}
    seen = await machine.get(f"{nylas}/_sim/state?ids=false")
    return Evidence(
        broker=broker,
        people=people,
        sent={what: len(notifications) for what, notifications in told.chapters},
        answers={int(status): count for status, count in seen["deliveries"]["by_status"].items()},
        records={name: len(every) for name, every in found.items()},
        changed=_keys(found["contacts.changes"]),
        outcomes=by_object,
        answered=_keys(found["contacts.outcomes"]),
        titles={key: (newest, titles.get(key)) for key, newest in told.titles.items()},
        bridge=pages["bridge"],
        reader=pages["reader"],
        dedupe=pages["dedupe"],
        sink=pages["sink"],
        nylas_calls=sum(seen["calls"].values()),
        org_before=before,
        org_after=org["records"],
        calls_first_sync=calls_first_sync,
        calls_all=org["calls"],
        refused=sum(org["refusals"].values()),
        first_sync_seconds=first_sync,
        live_latency=[
            (one["at_ms"] - one["received_ms"]) / 1000
            for one in outcomes
            if one["origin"] == "webhook"
        ],
    )


def _keys(records: list[KafkaRecord]) -> set[str]:
    return {(record.key or b"").decode() for record in records}


async def _stay(machine: Machine, say: Say) -> None:
    say("\nEverything stays up; Ctrl-C ends it. Where to look:")
    for name, value in sorted(machine.env.items()):
        if name in (
            "KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_TOPIC_PREFIX",
            "NYLAS_API_URL",
            "SALESFORCE_LOGIN_URL",
        ):
            say(f"  {name}={value}")
    for name, url in machine.ops.items():
        say(f"  {name:8} {url}/metrics")
    say(f"  logs     {machine.folder}")
    await stop_asked().wait()
