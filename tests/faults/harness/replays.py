"""Asks for replays while everything fails: of a grant, or of the contacts of one domain.

No replay may disturb what the verifier checks: the versions decide, whatever is published again.
"""

import asyncio
import json
import time
from typing import Any

from confluent_kafka import KafkaException

from tests.faults.harness.environment import Environment
from tests.faults.harness.load import (
    ACCOUNTS,
    BOOK_GRANT,
    SECOND_GRANT,
    account_domain,
)
from tests.faults.harness.schedule import Step
from tests.faults.harness.settings import NYLAS_AHEAD_SECONDS, PARTITIONS, TOPIC_PREFIX
from tests.support.kafka import GroupObserver

FLUSH_SECONDS = 1.0  # the broker may be away: the producer sends the request when it is back


def selection(draw: float) -> dict[str, Any]:
    """A part of the contacts, so that a storm of replays stays a small part of the load."""
    grants = (SECOND_GRANT, BOOK_GRANT)
    if draw < 0.5:
        return {"grants": [grants[int(draw * 2 * len(grants))]]}
    return {"domains": [account_domain(int((draw - 0.5) * 2 * ACCOUNTS))]}


async def ask(environment: Environment, step: Step) -> bool:
    """Writes the request to reader.runs, as the command does; False while no broker answers."""
    try:
        ends = await asyncio.to_thread(_ends, environment, step.target)
    except KafkaException:
        return False
    now = int(time.time() + NYLAS_AHEAD_SECONDS)
    # A step has a time of its own, so that no two requests have one ID.
    suffix = f"{int(step.at * 1000):09}"
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-replay-{suffix}"
    replay = {
        "source": step.target,
        "selection": selection(step.draw),
        "ends": ends,
        "rate": None,
    }
    run = {"kind": "replay", "grants": None, "requested_at": now, "by": "storm", "replay": replay}
    producer = environment.producer
    producer.produce(f"{TOPIC_PREFIX}reader.runs", json.dumps(run).encode(), run_id.encode())
    await asyncio.to_thread(producer.flush, FLUSH_SECONDS)
    return True


def _ends(environment: Environment, source: str) -> list[int]:
    observer = GroupObserver(
        environment.kafka, f"{TOPIC_PREFIX}storm-replays", f"contacts.{source}"
    )
    try:
        partitions = PARTITIONS if source == "events" else 1
        return [observer.end(partition) for partition in range(partitions)]
    finally:
        observer.close()
