"""What a reconcile publishes when more contacts are missing than are held at once."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from connectors.nylas.client import NylasClient
from connectors.nylas.errors import NotFound
from streams.kafka.records import KafkaRecord
from streams.kafka.snapshot import Snapshots
from streams.metrics import ReaderMetrics
from streams.reader import reconcile
from streams.reader.comparison import compare, listing_of
from streams.reader.context import ReaderContext
from streams.reader.gate import Gate
from streams.reader.reconcile import Reconciler
from streams.reader.records import contact_hash
from streams.reader.reoffer import Reoffer
from streams.settings import KafkaSettings, load
from streams.topics import topics
from tests.support.change_records import change

KAFKA = load(KafkaSettings, {})
TOPICS = topics(KAFKA)


class FakeSnapshots(Snapshots):
    """Topics that hold what a test lays down."""

    def __init__(self, changes: Sequence[KafkaRecord]) -> None:
        super().__init__(KAFKA)
        self.changes = changes

    async def read(
        self,
        topic: str,
        function: Callable[[Iterator[KafkaRecord]], Any],
        offset: int = 0,
        partition: int = 0,
    ) -> Any:
        return function(iter(self.changes if topic == TOPICS.changes.name else ()))


@pytest.mark.parametrize(("missing", "deletes"), [(40, True), (150, False)])
async def test_missing_contacts_are_deleted_part_by_part_if_all_together_pass_the_guard(
    monkeypatch: pytest.MonkeyPatch, missing: int, deletes: bool
) -> None:
    async def get_contact(_client: object, _grant: str, contact_id: str) -> None:
        raise NotFound(contact_id)

    published: list[KafkaRecord] = []

    async def publish(records: Sequence[KafkaRecord]) -> None:
        published.extend(records)

    monkeypatch.setattr(reconcile, "get_contact", get_contact)
    monkeypatch.setattr(reconcile, "compare", partial(compare, most=12))
    metrics = ReaderMetrics(CollectorRegistry())
    context = ReaderContext(TOPICS, publish, Gate(lambda: 0, 10**6, lambda _: None), metrics)
    snapshots = FakeSnapshots([change(f"g/{number}", 1, number) for number in range(missing)])
    client = NylasClient("http://nowhere.example", "key")
    reconciler = Reconciler(context, client, snapshots, Reoffer(context, snapshots))
    seen = array("Q", [contact_hash(f"here{number}") for number in range(200)])
    listings = {"g": listing_of("g", 1_700_000_000, ("address_book",), seen)}
    results = await reconciler.apply("r", listings, 0.3)
    if deletes:
        assert results["g"].deleted == missing
        assert sorted(record.key or b"" for record in published) == sorted(
            b"g/%d" % number for number in range(missing)
        )
    else:
        assert "stopped by the guard" in results["g"].error
        assert published == []
