"""Live events and replays in every order: the org ends with the newest, and never goes back.

Dedupe decides about each event, the sink takes the newest of each contact in a batch, and the org
refuses an older version.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.mapping_rules import FieldMapping
from streams.commands.explain.timeline import consumed
from streams.dedupe.planner import DedupePlanner
from streams.events import Kind, Origin, event_headers, page_envelope, parse_change
from streams.kafka.records import KafkaRecord
from streams.reader.replay_page import replayed
from streams.runs import Replay, ReplaySource
from streams.selection import Selection
from streams.settings import KafkaSettings, load
from streams.sink.batching import PendingChange, PendingChanges, contact_version
from streams.sink.deletions import Deletions
from streams.topics import topics
from tests.support.plain_org import KEY, VERSION, PlainOrg

TOPICS = topics(load(KafkaSettings, {}))
BASE = 1_760_000_000
SOURCES = tuple(ReplaySource)


def live(contact: int, version: int, deleted: bool) -> KafkaRecord:
    body: dict[str, Any] = {"grant_id": "g", "id": f"c{contact}"}
    if not deleted:
        address = {"email": f"p{contact}@acme.example"}
        body |= {"surname": f"P{contact}", "job_title": f"v{version}", "emails": [address]}
    identity = f"n{contact}-{version}"
    value = page_envelope(Origin.WEBHOOK, identity, BASE + version, body, deleted=deleted)
    headers = event_headers(Origin.WEBHOOK, (BASE + version) * 1000)
    return KafkaRecord(TOPICS.events.name, f"g/c{contact}".encode(), value, headers)


@dataclass
class Product:
    """Dedupe, sink and org as plain objects."""

    planner: DedupePlanner = field(default_factory=lambda: DedupePlanner(FieldMapping(), TOPICS))
    entries: dict[bytes, bytes] = field(default_factory=dict)
    events: list[KafkaRecord] = field(default_factory=list)
    changes: list[KafkaRecord] = field(default_factory=list)
    pending: PendingChanges = field(default_factory=PendingChanges)
    deletions: Deletions = field(default_factory=Deletions)
    org: PlainOrg = field(default_factory=PlainOrg)
    versions: dict[str, int] = field(default_factory=dict)
    """By key, the highest version that the org has held."""

    def happen(self, event: KafkaRecord) -> None:
        """Dedupe takes an event."""
        plan = self.planner.plan([consumed(event)], self.entries, BASE + 100)
        self.entries |= plan.entries
        for topic, value, key, headers in plan.outputs:
            assert topic == TOPICS.changes.name
            record = KafkaRecord(topic, key, value, headers, 0, len(self.changes))
            self.changes.append(record)
            change = parse_change(key, value, headers)
            assert change is not None
            row = PendingChange(change, record, frozenset({change.key}), 0.0, [record.offset])
            self.pending.add(row)

    def replay(self, source: ReplaySource, which: float) -> None:
        """Publishes a record of a topic again, however old it is."""
        log = self.events if source is ReplaySource.EVENTS else self.changes
        if log:
            record = log[int(which * len(log))]
            self.happen(replayed(TOPICS, "r", Replay(source, Selection(), ()), record))

    def write(self, size: int) -> None:
        """The sink writes a batch."""
        rows = [
            row
            for row in self.pending.next_batch((), 1.0, size, hurry=True)
            if not self.deletions.is_outdated(row.change)
        ]
        self.org.sync(*(contact_version(row.change) for row in rows))
        for row in rows:
            if row.change.kind is Kind.DELETED:
                self.deletions.note(row.key, row.change.version)
        for record in self.org.people():
            if key := record.get(KEY):
                assert record[VERSION] >= self.versions.get(key, 0), "the org went back"
                self.versions[key] = record[VERSION]

    def check(self, newest: dict[int, tuple[int, bool]]) -> None:
        """Writes what is left, and compares the org with the newest event of each contact."""
        while self.pending.ready:
            self.write(1000)
        held = {record[KEY]: record for record in self.org.people() if record.get(KEY)}
        for contact, (version, deleted) in newest.items():
            record = held.get(f"g/c{contact}")
            if deleted:
                assert record is None, f"contact {contact} is back from its deletion"
            else:
                assert record is not None, f"contact {contact} is lost"
                assert (record["Title"], record[VERSION]) == (f"v{version}", BASE + version)


def play(steps: Sequence[Any], deleted: frozenset[tuple[int, int]]) -> None:
    """A step is (contact, version) of a live event, (source, which) of a replay, or a size."""
    product, newest = Product(), dict[int, tuple[int, bool]]()
    for step in steps:
        if isinstance(step, int):
            product.write(step)
        elif isinstance(step[0], ReplaySource):
            product.replay(*step)
        else:
            event = live(step[0], step[1], step in deleted)
            product.events.append(event)
            product.happen(event)
            newest[step[0]] = max(newest.get(step[0], (0, False)), (step[1], step in deleted))
    product.check(newest)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("gone", [(), ((0, 2),), ((0, 3),)])
def test_three_versions_and_replays_of_the_first_and_the_last_in_every_order(
    source: ReplaySource, gone: tuple[tuple[int, int], ...]
) -> None:
    lives = [(0, 1), (0, 2), (0, 3)]
    replays = [(source, 0.0), (source, 0.9)]
    for order in permutations([*lives, *replays, 1]):
        if order[0] in lives:
            play(order, frozenset(gone))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 6))
        | st.tuples(st.sampled_from(SOURCES), st.floats(0, 0.99))
        | st.integers(1, 3),
        max_size=30,
    ),
    deleted=st.frozensets(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=5),
)
def test_any_mixture_of_live_changes_and_replays_ends_with_the_newest(
    steps: list[Any], deleted: frozenset[tuple[int, int]]
) -> None:
    play(steps, deleted)
