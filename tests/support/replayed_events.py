"""Events for the tests of replays: three versions of some contacts, and what dedupe forwards."""

import json
from collections import defaultdict

from tests.support.kafka import Found
from tests.support.processes import Process
from tests.support.reader_harness import Headers, ReaderHarness, Start
from tests.support.waiting import wait_until

BASE = 1_760_000_000
CONTACTS = 300
NO_GATE = "1000000"
"""READER_MAX_LAG: no sink runs in these tests."""


def write_events(
    harness: ReaderHarness, version: int, first: int = 0, last: int = CONTACTS
) -> None:
    headers: Headers = [("origin", b"webhook"), ("received_ms", b"%d" % ((BASE + version) * 1000))]
    records = []
    for number in range(first, last):
        contact = {
            "grant_id": "g",
            "id": f"c{number}",
            "object": "contact",
            "given_name": f"v{version}",
            "emails": [{"email": f"p{number}@acme{number % 2}.example"}],
        }
        body = {
            "type": "contact.updated",
            "id": f"n{version}-{number}",
            "time": BASE + version,
            "data": {"object": contact},
        }
        records.append((f"g/c{number}".encode(), json.dumps(body).encode()))
    harness.kafka.produce("contacts.events", records, headers)


def changes(harness: ReaderHarness) -> dict[str, list[int]]:
    """The versions of each contact in contacts.changes, by their offsets."""
    versions: dict[str, list[int]] = defaultdict(list)
    for found in harness.kafka.read("contacts.changes"):
        versions[(found.key or b"").decode()].append(int(found.headers["version"]) - BASE)
    return versions


def replayed(harness: ReaderHarness) -> list[Found]:
    return [found for found in harness.events() if found.headers["origin"] == b"replay"]


def with_versions(start: Start, contacts: int = CONTACTS) -> tuple[ReaderHarness, Process]:
    """A dedupe worker that has forwarded versions 1 to 3 of every contact, and a reader."""
    harness = start({"grants": []})
    for version in (1, 2, 3):
        write_events(harness, version, last=contacts)
    # Nobody lists these grants, so nothing is derived from their addresses.
    harness.processes.start("dedupe", environ={"PEOPLE_OWN_DOMAINS": "none"})
    reader = harness.reader(READER_RECONCILE_EVERY="0", READER_MAX_LAG=NO_GATE)
    wait_until(
        lambda: sum(map(len, changes(harness).values())) == 3 * contacts, "all is forwarded", 120
    )
    return harness, reader
