"""Collects the evidence of a storm or a scenario from its topics and its org."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.harness.environment import Environment
from tests.faults.harness.evidence import (
    Evidence,
    FinalBook,
    Sample,
    StoredRecord,
    Verdict,
    Write,
)
from tests.faults.harness.load import BOOK_GRANT, GRANT, SECOND_GRANT
from tests.faults.harness.salesforce_faults import REFUSAL_CODE, REFUSAL_MESSAGE
from tests.support.kafka import Found, Kafka
from tests.support.letters import failed_found

TOPICS = ("events", "changes", "outcomes", "refetch", "dead-letter")
"""Of contacts: those that the verifier reads."""


def read_topics(kafka: Kafka) -> dict[str, list[StoredRecord]]:
    """Every record of the topics in TOPICS, by the topic's name there. Blocks.

    A dead letter has the key and the value of the record that failed.
    """
    found = {name: kafka.read(f"contacts.{name}") for name in TOPICS}
    found["dead-letter"] = [
        failed_found(one) if "dlq.schema" in one.headers else one for one in found["dead-letter"]
    ]
    return {name: _stored(records) for name, records in found.items()}


def writes_from(answer: Sequence[dict[str, Any]]) -> list[Write]:
    """The rows that the org applied, from its simulator's answer."""
    return [Write(one["seq"], one["id"], one["key"], one["version"]) for one in answer]


async def collect(
    environment: Environment,
    topics: dict[str, list[StoredRecord]],
    *,
    acknowledged: Sequence[str],
    samples: Sequence[Sample],
    least_samples: int,
    lost_outcomes: Sequence[StoredRecord] = (),
) -> Evidence:
    """The evidence of a storm, whose topics were read already."""
    salesforce = environment.salesforce
    records = []
    for sobject in ("Contact", "Lead"):
        records += await salesforce.get(f"/_sim/records/{sobject}")
    refusals = (await salesforce.get("/_sim/state"))["refusals"]
    return Evidence(
        acknowledged=acknowledged,
        events=topics["events"],
        changes=topics["changes"],
        outcomes=topics["outcomes"],
        lost_outcomes=lost_outcomes,
        refetch=topics["refetch"],
        dead_letters=topics["dead-letter"],
        writes=writes_from(await salesforce.get("/_sim/writes")),
        org=records,
        samples=samples,
        least_samples=least_samples,
        grants=(GRANT, SECOND_GRANT, BOOK_GRANT),
        book=FinalBook(BOOK_GRANT, environment.book.truth),
        refusal=REFUSAL_MESSAGE,
        # Twice: a row may stand for a person who is in two grants.
        refused=2 * refusals.get(REFUSAL_CODE, 0),
    )


def keep_details(verdict: Verdict, evidence: Evidence, folder: Path) -> None:
    """Writes everything known of each contact that a violation names to `<folder>/<key>.txt`.

    Records come in the order of their topic.
    """
    text = "\n".join(example for some in verdict.examples.values() for example in some)
    for key in set(re.findall(r"[\w-]+/\w+", text)):
        (folder / f"{key.replace('/', '_')}.txt").write_text("\n".join(_details(evidence, key)))


def _details(evidence: Evidence, key: str) -> list[str]:
    ids = {one["Id"] for one in evidence.org if one.get("Nylas_Contact_Id__c") == key}
    ids |= {write.record_id for write in evidence.writes if write.key == key}
    lines = [
        f"{topic} {one.partition}:{one.offset} {one.headers} {_text(one.value)}"
        for topic in ("events", "changes", "outcomes", "refetch", "dead_letters")
        for one in getattr(evidence, topic)
        if one.key == key
    ]
    lines += [f"write {write}" for write in evidence.writes if write.record_id in ids]
    return lines + [f"record {one}" for one in evidence.org if one["Id"] in ids]


def _stored(found: Sequence[Found]) -> list[StoredRecord]:
    return [
        StoredRecord(
            one.partition,
            one.offset,
            _text(one.key),
            one.value,
            {name: _text(value) for name, value in one.headers.items()},
        )
        for one in found
    ]


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
