"""What the sink takes of the processor for a contact, and how many contacts it writes in a second.

    make bench ARGS=tests/benchmarks/bench_sink.py

Two orgs: one that answers at once, so that the processor is the limit, and one that takes 150 ms a
call and 2 ms a row. The org and the sink are processes of their own; Kafka is left out, so that the
figures are those of reading, planning, calling and reporting alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.broker import free_ports
from tests.benchmarks.conftest import MeasuredSheet
from tests.benchmarks.profiles import profile_sheet, sample, shares
from tests.benchmarks.sheets import Sheet
from tests.benchmarks.sink_alone import ACCOUNTS, HALVES
from tests.support.paths import ROOT

# So many that the beginning and the end of a run, where fewer batches are in flight, weigh little.
CONTACTS = int(os.environ.get("BENCH_CONTACTS", "50000"))
RUN_SECONDS = 900.0
# As many as an org lets run for long at once, less some for its people.
IN_FLIGHT = 16
# A pair of calls takes 1,000 contacts; the goal is 800. People of one Account are never in two
# batches at once, and a run ends with a batch that is not full, so that a short run has fewer.
LEAST_OF_A_PAIR = 700
# So many rounds take the processor as long as some contacts.
LOOPS = 10_000

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(2 * RUN_SECONDS)]


@contextmanager
def org(ms_call: float, ms_row: float) -> Iterator[str]:
    """The URL of an org that takes so long for a call, and for a row that it writes."""
    (port,) = free_ports(1)
    words = map(str, (port, ACCOUNTS, ms_call, ms_row))
    command = [sys.executable, "-m", "tests.benchmarks.quick_org", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        yield f"http://127.0.0.1:{port}"
        serving.kill()


def start_sink(url: str, contacts: int) -> subprocess.Popen[str]:
    """The sink alone, in a run with so many contacts."""
    words = [url, str(contacts), str(IN_FLIGHT)]
    command = [sys.executable, "-m", "tests.benchmarks.sink_alone", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def figures(url: str, contacts: int) -> dict[str, Any]:
    """What the sink alone prints after a run with so many contacts."""
    with start_sink(url, contacts) as process:
        try:
            printed, _ = process.communicate(timeout=RUN_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


@pytest.mark.parametrize(("ms_call", "ms_row"), [(0, 0), (150, 2)])
def test_a_first_sync_and_a_change_of_everybody(
    ms_call: float, ms_row: float, measured_sheet: MeasuredSheet
) -> None:
    """Every contact is created once, and updated once; calls are full."""
    with org(ms_call, ms_row) as url:
        found = figures(url, CONTACTS)
    measured_sheet(
        Sheet(
            f"sink with an org of {ms_call} ms a call",
            f"{CONTACTS:,} contacts without Kafka, each created once and then updated once, with "
            f"{IN_FLIGHT} batches in flight. The org takes {ms_call} ms a call and {ms_row} ms a "
            f"row. The process takes {found['peak MB']} MB at most, with the records of the run.",
            [
                "µs of processor a contact",
                "rounds of a fixed loop that take as long",
                "contacts/s",
                "contacts for each pair of calls",
            ],
            {
                half: [
                    found[half]["processor_us"],
                    found[half]["processor_us"] / found[half]["loop_us"],
                    found[half]["contacts_per_second"],
                    found[half]["contacts_per_pair"],
                ]
                for half in HALVES
            },
            {
                f"contacts {half} in {LOOPS:,} rounds of a fixed loop": LOOPS
                * found[half]["loop_us"]
                / found[half]["processor_us"]
                for half in HALVES
            },
        )
    )
    assert found["outcomes"] == {"created": CONTACTS, "updated": CONTACTS}
    assert all(found[half]["contacts_per_pair"] >= LEAST_OF_A_PAIR for half in HALVES)


_SALESFORCE = "connectors/salesforce/"
PARTS = {
    "records of Kafka": [
        "streams/kafka/", "streams/events.py", "streams/sink/intake.py",
        "streams/sink/assignment.py", "streams/sink/catch_up.py", "streams/sink/consumer.py",
        "streams/sink/memory_use.py", "streams/runtime/unfinished.py",
    ],
    "addresses, names, Accounts": [
        f"{_SALESFORCE}{name}.py" for name in (
            "emails", "routing", "exclusions", "person", "accounts", "account_table", "domains",
            "names", "suppression", "kept_fields", "outcome",
        )
    ],
    "choosing batches": [
        "streams/sink/batching.py", "streams/sink/stage.py", "streams/sink/running_tasks.py",
    ],
    "lookups": [
        f"{_SALESFORCE}{name}.py" for name in (
            "queries", "candidate_lookup", "candidates", "deleted_records", "api/percent_encoding",
        )
    ],
    "matching and planning": [
        f"{_SALESFORCE}{name}.py" for name in (
            "planner", "matching", "shared_addresses", "sobject_record", "sync",
        )
    ],
    "merging fields": [
        f"{_SALESFORCE}{name}.py" for name in (
            "merge", "field_values", "field_hashes", "field_paths", "field_types", "schema",
        )
    ],
    "packing and writing": [
        f"{_SALESFORCE}{name}.py" for name in (
            "packing", "writer", "rows", "record_locks", "repeats", "owners", "provenance",
            "write_rules", "replaced_values", "api/composite", "unanswered_calls",
        )
    ],
    "HTTP and JSON": [f"{_SALESFORCE}api/"],
    "outcomes and journal": [
        "streams/sink/", "streams/journal.py", "streams/dead_letters.py",
        f"{_SALESFORCE}outcome_mapping.py",
    ],
}  # fmt: skip
"""The first part whose path fits counts."""
NEXT_CHANGE = (
    "No part stands out. The smallest next change: make the immutable data classes, of which each "
    "contact takes some ten, tuples. A large gain needs compiled modules."
)
PROFILED_CONTACTS = 20_000


def test_where_the_processors_time_goes(measured_sheet: MeasuredSheet, tmp_path: Path) -> None:
    """So that whoever wants it faster knows where to begin."""
    with org(0, 0) as url, start_sink(url, PROFILED_CONTACTS) as process:
        stacks = sample(process.pid, int(RUN_SECONDS), tmp_path)
    assert process.returncode == 0
    found = shares(stacks, PARTS, ["tests/"])
    work = f"the sink alone, which creates and then updates {PROFILED_CONTACTS:,} contacts"
    measured_sheet(profile_sheet("sink", work, found, NEXT_CHANGE))
    assert {*found} >= {*PARTS}
