"""Runs the whole product on this machine: a broker, two simulators, and every stage.

`contactstream demo` calls `run`. It syncs the address books first, then sends live notifications,
and reports what each stage counted.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console

from connectors.salesforce.write_mode import WriteMode
from streams.demo.cluster import Print, error_text, given_cluster, start_broker
from streams.demo.collect import FirstSync, Simulators, collect_evidence
from streams.demo.processes import REPOSITORY, START_SECONDS, DemoFailed, ProcessGroup
from streams.demo.report import report, table
from streams.demo.scenario import API_KEY, assign_roles, initial_data, make_scenario
from streams.demo.watching import start_watching
from streams.kafka.admin import create
from streams.kafka.clients import client_config
from streams.kafka.lag import LagReader
from streams.runtime.signals import stop_asked
from streams.settings import GROUPS, KafkaSettings, SettingsError
from streams.topics import group, topics

# The address books into Salesforce: a fixed part, and a pace that is far below the usual one.
SYNC_SECONDS = 180.0
SYNC_PEOPLE_PER_SECOND = 50
# Of the mailboxes that the simulated Nylas has.
OWN_DOMAIN = "our-team.example"
# Until every live notification has been processed.
QUIET_SECONDS = 120.0
# No standby waits to take over, and a stage that gets no processor for 5 s must not end itself.
SESSION_SECONDS = 30

FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")
ThirdT = TypeVar("ThirdT")

OK, DOES_NOT_ADD_UP, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


async def run(*, people: int, seed: int, as_json: bool, stay: bool) -> int:
    """Runs the demo and prints its report; returns the exit code.

    It is OK, DOES_NOT_ADD_UP, COULD_NOT_RUN (the reason is printed) or INTERRUPTED. The folder with
    the logs is deleted only after OK.
    """
    console = Console(stderr=as_json)
    print_line = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="contactstream-demo-"))
    this_task = asyncio.current_task()
    if this_task is not None:  # asyncio.run handles SIGINT in the same way
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)
    try:
        async with AsyncExitStack() as stack:
            given = given_cluster(os.environ)
            processes = ProcessGroup(folder, stack, without_settings(os.environ))
            stack.push_async_callback(processes.http.aclose)
            figures = await run_scenario(processes, print_line, given, people, seed)
            if as_json:
                sys.stdout.write(json.dumps(figures, indent=2) + "\n")
                sys.stdout.flush()
            else:
                console.print(table(figures))
            if stay:
                await _stay(processes, print_line)
        status = DOES_NOT_ADD_UP if figures["problems"] else OK
    except asyncio.CancelledError:
        status = INTERRUPTED
    except (DemoFailed, SettingsError, KafkaException, httpx.HTTPError, OSError) as error:
        print_line(f"the demo could not run: {error_text(error)}")
        status = COULD_NOT_RUN
    except Exception as error:  # noqa: BLE001  a bug must not look like numbers that do not add up
        (folder / "demo.log").write_text(traceback.format_exc())
        print_line(f"the demo could not run: {error!r}; see demo.log")
        status = COULD_NOT_RUN
    if status == OK and not stay:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print_line(f"the logs are in {folder}")
    return status


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting of contactstream.

    So the demo does the same on every machine, and never touches the user's deployment.
    """
    prefixes = (*(f"{group.prefix}_" for group in GROUPS), "CONTACTSTREAM_")
    kept = {name: value for name, value in environ.items() if not name.startswith(prefixes)}
    return kept | {"PYTHONPATH": str(REPOSITORY), "OPS_LOG_FORMAT": "json"}


async def run_scenario(
    processes: ProcessGroup, print_line: Print, given: str, people: int, seed: int
) -> dict[str, Any]:
    """Starts everything, runs the first sync and the live notifications; returns the figures.

    `given` is the bootstrap address of the user's own cluster, or empty. Raises DemoFailed,
    SettingsError, KafkaException, httpx.HTTPError, OSError.
    """
    books, org = initial_data(people, seed)
    print_line("starting a broker, simulators of Nylas and Salesforce, and the four stages ...")
    (broker, kafka), nylas, salesforce = await _together(
        start_broker(processes, print_line, given),
        _start_simulator(processes, "nylas", books),
        _start_simulator(processes, "salesforce", org),
    )
    simulators = Simulators(nylas, salesforce)
    await asyncio.to_thread(create, AdminClient(client_config(kafka)), topics(kafka).all())
    await _start_stages(processes, simulators)

    print_line(f"reading {people:,} people out of three address books ...")
    first_sync = await _run_first_sync(processes, kafka, simulators, people)

    print_line("sending live notifications ...")
    roles = assign_roles(books, org, seed)
    scenario = make_scenario(roles, books["grants"][0]["id"], int(time.time()))
    for _, notifications in scenario.notifications:
        await processes.post(
            f"{simulators.nylas}/_sim/notify",
            {"notifications": list(notifications), "wait": True},
        )
    await _wait_quiet(processes, kafka, QUIET_SECONDS, "the live changes are not done")
    evidence = await collect_evidence(
        processes, broker, kafka, simulators, people, scenario, first_sync
    )
    return report(evidence)


async def _together(
    first: Coroutine[Any, Any, FirstT],
    second: Coroutine[Any, Any, SecondT],
    third: Coroutine[Any, Any, ThirdT],
) -> tuple[FirstT, SecondT, ThirdT]:
    """The results of all; the first that fails ends the others. Raises as it does."""
    tasks = (asyncio.create_task(first), asyncio.create_task(second), asyncio.create_task(third))
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _start_simulator(processes: ProcessGroup, name: str, state: Mapping[str, Any]) -> str:
    """Starts a simulator with its initial state; returns its URL."""
    file = processes.folder / f"{name}-state.json"
    file.write_text(json.dumps(state))
    words = ("simulate", name, "--listen", "127.0.0.1:0", "--world", str(file))
    child = await processes.start_command(name, *words)
    return (await processes.first_line(child, START_SECONDS)).rpartition(" ")[2]


async def _start_stages(processes: ProcessGroup, simulators: Simulators) -> None:
    """Starts the four stages, waits until they are ready, and creates the webhook."""
    from deploy.local.broker import free_ports

    webhook_port, *ops_ports = free_ports(5)
    secret_file = processes.folder / "webhook-secrets"
    secret_file.write_text("")
    secret_file.chmod(0o600)
    processes.env |= {
        "NYLAS_API_URL": simulators.nylas,
        "NYLAS_API_KEY": API_KEY,
        "SALESFORCE_LOGIN_URL": simulators.salesforce,
        "SALESFORCE_MODE": WriteMode.MIRROR.value,
        "PEOPLE_OWN_DOMAINS": OWN_DOMAIN,
        "SALESFORCE_CLIENT_ID": "demo",
        "SALESFORCE_CLIENT_SECRET": "demo",
        **{
            f"{stage}_SESSION_TIMEOUT": str(SESSION_SECONDS)
            for stage in ("DEDUPE", "SINK", "READER")
        },
    }
    bridge_env = {
        "BRIDGE_LISTEN": f"127.0.0.1:{webhook_port}",
        "NYLAS_WEBHOOK_SECRETS_FILE": str(secret_file),
    }
    for stage, ops_port in zip(("bridge", "dedupe", "sink", "reader"), ops_ports, strict=True):
        await processes.start_stage(stage, ops_port, bridge_env if stage == "bridge" else None)
    await processes.wait_ready()
    # As at Nylas, the challenge comes before the secret exists. The bridge reads the secret from
    # its file without a restart.
    created = await processes.post(
        f"{simulators.nylas}/v3/webhooks",
        {
            "webhook_url": f"http://127.0.0.1:{webhook_port}/",
            "trigger_types": ["contact.updated", "contact.deleted"],
        },
    )
    secret_file.write_text(created["data"]["webhook_secret"])


async def _run_first_sync(
    processes: ProcessGroup, kafka: KafkaSettings, simulators: Simulators, people: int
) -> FirstSync:
    state_url = f"{simulators.salesforce}/_sim/state"
    org_before = (await processes.get(state_url))["records"]
    began = time.monotonic()
    seconds = SYNC_SECONDS + people / SYNC_PEOPLE_PER_SECOND
    await _backfill(processes, seconds)
    await _wait_quiet(processes, kafka, seconds, "the first sync is not done")
    elapsed = time.monotonic() - began
    return FirstSync(org_before, (await processes.get(state_url))["calls"], elapsed)


async def _backfill(processes: ProcessGroup, seconds: float) -> None:
    backfill = await processes.start_command("backfill", "backfill", "--all")

    async def has_ended() -> bool:
        return backfill.process.returncode is not None

    await processes.wait_until(has_ended, seconds, "the backfill is not done")
    if backfill.process.returncode != 0:
        raise DemoFailed(
            f"the backfill ended with {backfill.process.returncode}; see {backfill.log.name}"
        )


async def _wait_quiet(
    processes: ProcessGroup, kafka: KafkaSettings, seconds: float, failure: str
) -> None:
    """Waits until dedupe and the sink have no lag. Raises DemoFailed."""
    lags = LagReader(client_config(kafka))
    names = topics(kafka)

    async def has_no_lag() -> bool:
        try:
            for stage, topic in (("dedupe", names.events), ("sink", names.changes)):
                if await asyncio.to_thread(
                    lags.lag, group(kafka, stage), topic.name, topic.partitions
                ):
                    return False
        except KafkaException:  # one request timed out; the next one may be answered
            return False
        return True

    await processes.wait_until(has_no_lag, seconds, failure)


async def _stay(processes: ProcessGroup, print_line: Print) -> None:
    """Starts what there is to look with, prints where it is, and waits for a signal."""
    seen = await start_watching(processes)
    print_line("\nEverything stays up; Ctrl-C ends it. Where to look:")
    for name, url in seen.items():
        print_line(f"  {name:10} {url}/")
    if "prometheus" not in seen:
        print_line("  prometheus is not installed on this machine; with it there are alerts")
    for name, url in processes.ops_urls.items():
        print_line(f"  {name:10} {url}/metrics")
    print_line(f"  {'logs':10} {processes.folder}")
    print_line("For commands beside it:")
    for name in (
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_TOPIC_PREFIX",
        "NYLAS_API_URL",
        "SALESFORCE_LOGIN_URL",
    ):
        print_line(f"  {name}={processes.env[name]}")
    await stop_asked().wait()
