"""The demo's Kafka: started with deploy/local/broker.py, or the user's own, which is cleaned up."""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.demo.processes import BROKER, REPOSITORY, DemoFailed, ProcessGroup
from streams.kafka.admin import refusal
from streams.kafka.clients import client_config
from streams.settings import KafkaSettings, SettingsError, load

# The first start downloads Kafka, for which the broker's own bound is 600 s.
BROKER_START_SECONDS = 720.0
# A broker that is installed is there in less. Whoever waits for longer is told why.
SLOW_START_SECONDS = 12.0
SLOW_START = (
    "no broker yet: Apache Kafka is being downloaded, or a container is starting, which is given "
    "up after 90 s"
)
# Until a consumer group is empty: its members have left, or their sessions have expired.
EMPTY_GROUP_SECONDS = 40.0
# One request to delete something.
ADMIN_REQUEST_SECONDS = 30.0

BROKER_SCRIPT = REPOSITORY / "deploy" / "local" / "broker.py"

Print = Callable[[str], None]
"""Prints a line for the user."""


def given_cluster(environ: Mapping[str, str]) -> str:
    """The bootstrap address of the user's own cluster; empty when there is none.

    Raises DemoFailed for settings that cannot be used, and for a cluster that needs a login or TLS,
    which the demo does not support.
    """
    given = environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if not given:
        return ""
    try:
        protocol = load(KafkaSettings, environ).security_protocol
    except SettingsError as error:
        raise DemoFailed(str(error)) from error
    if protocol != "PLAINTEXT":
        raise DemoFailed(
            f"the cluster of KAFKA_BOOTSTRAP_SERVERS wants {protocol}, "
            "and the demo speaks only PLAINTEXT; "
            "unset KAFKA_BOOTSTRAP_SERVERS, and it starts a broker of its own"
        )
    return given


async def start_broker(
    processes: ProcessGroup, print_line: Print, given: str
) -> tuple[str, KafkaSettings]:
    """Starts a broker, or finds the given one; returns its kind and the settings to reach it.

    The settings become part of the environment of all processes that are started afterwards.
    """
    if not BROKER_SCRIPT.exists():
        raise DemoFailed(
            "the demo needs a checkout of the project, "
            "because it starts the broker with deploy/local/broker.py"
        )
    env = {"KAFKA_BOOTSTRAP_SERVERS": given} if given else {}
    child = await processes.start(BROKER, sys.executable, str(BROKER_SCRIPT), "--json", env=env)
    notice = asyncio.get_running_loop().call_later(SLOW_START_SECONDS, print_line, SLOW_START)
    try:
        broker = json.loads(await processes.first_line(child, BROKER_START_SECONDS))
    finally:
        notice.cancel()
    if broker["kind"] == "tansu":
        print_line("Apache Kafka cannot be started on this machine:")
    if broker["kind"] == "tansu" or (given and broker["kind"] != "given"):
        for reason in broker["skipped"]:
            print_line(f"- {reason}")
    print_line(f"the broker: {broker['note']}")
    processes.env |= {
        "KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_TOPIC_PREFIX": f"demo-{secrets.token_hex(4)}.",
    }
    kafka = load(KafkaSettings, processes.env)
    if broker["kind"] == "given":
        processes.call_at_end(partial(_clean_up, kafka, print_line))
    return broker["kind"], kafka


async def _clean_up(kafka: KafkaSettings, print_line: Print) -> None:
    """Deletes the demo's topics and groups; prints what could not be deleted."""
    try:
        await asyncio.to_thread(_delete_groups_and_topics, kafka)
    except KafkaException as error:
        print_line(
            f"topics or groups that begin with {kafka.topic_prefix} are left in the cluster: "
            f"{error_text(error)}"
        )


def _delete_groups_and_topics(kafka: KafkaSettings) -> None:
    admin = AdminClient(client_config(kafka))
    deadline = time.monotonic() + EMPTY_GROUP_SECONDS
    while groups := _groups(admin, kafka.topic_prefix):
        for future in admin.delete_consumer_groups(
            groups, request_timeout=ADMIN_REQUEST_SECONDS
        ).values():
            try:
                future.result()
            except KafkaException as error:
                # A member that was killed stays in its group until its session expires.
                in_use = error.args[0].code() == KafkaError.NON_EMPTY_GROUP
                if not in_use or time.monotonic() > deadline:
                    raise
        time.sleep(0.2)
    names = [
        name
        for name in admin.list_topics(timeout=ADMIN_REQUEST_SECONDS).topics
        if name.startswith(kafka.topic_prefix)
    ]
    for future in admin.delete_topics(names, request_timeout=ADMIN_REQUEST_SECONDS).values():
        future.result()


def _groups(admin: AdminClient, prefix: str) -> list[str]:
    listing = admin.list_consumer_groups(request_timeout=ADMIN_REQUEST_SECONDS).result()
    return [one.group_id for one in listing.valid if one.group_id.startswith(prefix)]


def error_text(error: Exception) -> str:
    """An error for the user; with the remedy for a refusal by the broker."""
    if isinstance(error, KafkaException):
        return refusal(error) if isinstance(error.args[0], KafkaError) else str(error)
    return str(error) or type(error).__name__
