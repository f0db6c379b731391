"""Collects the demo's evidence from the simulators, the stages' metrics and the topics."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.demo.evidence import Evidence, Samples, count, parse_samples
from streams.demo.processes import ProcessGroup
from streams.demo.scenario import Scenario
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings
from streams.topics import topics

# One topic, on a machine that does other things as well.
READ_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Simulators:
    """The URLs of the two simulators."""

    nylas: str
    salesforce: str


@dataclass(frozen=True, slots=True)
class FirstSync:
    """What was measured before the live notifications."""

    org_before: Mapping[str, int]
    """Records of the org before the first sync, by object."""
    calls: Mapping[str, int]
    """Salesforce calls of the first sync, by kind."""
    seconds: float


async def collect_evidence(
    processes: ProcessGroup,
    broker: str,
    kafka: KafkaSettings,
    simulators: Simulators,
    people: int,
    scenario: Scenario,
    first_sync: FirstSync,
) -> Evidence:
    """The evidence after everything has been processed. Raises httpx.HTTPError, KafkaException."""
    metrics = {stage: await _metrics(processes, url) for stage, url in processes.ops_urls.items()}
    records = await _records(kafka)
    outcomes = [json.loads(record.value or b"{}") for record in records["contacts.outcomes"]]
    org = await processes.get(f"{simulators.salesforce}/_sim/state")
    titles = await _titles(processes, simulators.salesforce)
    nylas = await processes.get(f"{simulators.nylas}/_sim/state?ids=false")
    by_status = nylas["deliveries"]["by_status"]
    return Evidence(
        broker=broker,
        people=people,
        sent={kind: len(notifications) for kind, notifications in scenario.notifications},
        answers={int(status): number for status, number in by_status.items()},
        records={topic: len(every) for topic, every in records.items()},
        changed_keys=_keys(records["contacts.changes"]),
        outcomes=_by_outcome_and_object(outcomes),
        outcome_keys=_keys(records["contacts.outcomes"]),
        titles={key: (newest, titles.get(key)) for key, newest in scenario.titles.items()},
        bridge=metrics["bridge"],
        reader=metrics["reader"],
        dedupe=metrics["dedupe"],
        sink=metrics["sink"],
        # How often the reader asks for the state of the webhook depends on how long the demo lasts.
        nylas_calls=sum(nylas["calls"].values())
        - count(metrics["reader"], "reader_calls", "list_webhooks/200"),
        org_before=first_sync.org_before,
        org_after=org["records"],
        calls_first_sync=first_sync.calls,
        calls_all=org["calls"],
        refused=sum(org["refusals"].values()),
        first_sync_seconds=first_sync.seconds,
        live_latency=[
            (one["at_ms"] - one["received_ms"]) / 1000
            for one in outcomes
            if one["origin"] == "webhook"
        ],
    )


async def _metrics(processes: ProcessGroup, url: str) -> Samples:
    return parse_samples((await processes.http.get(f"{url}/metrics")).text)


async def _records(kafka: KafkaSettings) -> dict[str, list[KafkaRecord]]:
    """The records of each topic, by its name without the prefix."""
    names = topics(kafka)
    return {
        topic.name.removeprefix(kafka.topic_prefix): await asyncio.to_thread(
            _read_topic, kafka, topic.name
        )
        for topic in (names.events, names.changes, names.outcomes, names.dead_letter)
    }


def _read_topic(kafka: KafkaSettings, topic: str) -> list[KafkaRecord]:
    return list(read_to_end(kafka, topic, since=0.0, within=READ_SECONDS))


async def _titles(processes: ProcessGroup, salesforce: str) -> dict[str | None, str | None]:
    """The title of each record in the org, by its contact key."""
    return {
        record.get("Nylas_Contact_Id__c"): record.get("Title")
        for sobject in ("Contact", "Lead")
        for record in await processes.get(f"{salesforce}/_sim/records/{sobject}")
    }


def _by_outcome_and_object(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        counted[one["outcome"]][one["sobject"] or ""] += 1
    return counted


def _keys(records: Sequence[KafkaRecord]) -> set[str]:
    return {(record.key or b"").decode() for record in records}
