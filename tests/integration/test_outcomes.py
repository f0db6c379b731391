"""The outcomes of many contacts on a real Kafka are listed in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.system]

CONTACTS = 200_000
AT_ONCE = 20_000

# The command took 161 MB for 100,000 contacts, 165 MB for 200,000 and 169 MB for 400,000: most of
# it is what the client has fetched ahead. All of the rows together would take some 120 MB.
MOST_BYTES = 200 * 2**20

# Runs a command and prints the most memory that it took, in KB. A process counts the memory of
# the one that started it as its own, until its program is loaded. That of a test runner is large.
MEASURING = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def filled(kafka: Kafka) -> Kafka:
    """A topic with the outcomes of CONTACTS contacts, and no content of theirs."""
    names = topics(load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": kafka.prefix}))
    for topic in (names.outcomes, names.changes):
        kafka.create(topic.name.removeprefix(kafka.prefix), 1)
    for start in range(0, CONTACTS, AT_ONCE):
        records: list[tuple[bytes | None, bytes | None]] = [
            (
                b"3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01/%032d" % number,
                orjson.dumps(
                    {
                        "outcome": "failed",
                        "reason": "field_custom_validation_exception",
                        "sobject": "Contact",
                        "id": f"0035g{number:010d}AAA",
                        "origin": "backfill",
                        "at_ms": 1_790_000_000_000 + number,
                    }
                ),
            )
            for number in range(start, start + AT_ONCE)
        ]
        kafka.produce("contacts.outcomes", records, [])
    return kafka


def test_many_outcomes_are_listed_in_the_memory_of_some(filled: Kafka, tmp_path: Path) -> None:
    environ = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": filled.bootstrap,
        "KAFKA_TOPIC_PREFIX": filled.prefix,
    }
    listed = tmp_path / "outcomes.csv"
    command = [str(Path(sys.executable).parent / "contactstream"), "outcomes", "--csv"]
    with listed.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", MEASURING, *command],
            env=environ,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    with listed.open() as lines:
        keys = {line.partition(",")[0] for line in lines}
    assert len(keys) == CONTACTS + 1, "every contact once, and the line of names"
    peak = int(done.stderr.split()[-1]) * 1024
    print(f"{CONTACTS:,} outcomes, {peak // 2**20} MB at most")
    assert peak < MOST_BYTES
