"""An older change that comes again after its contact was deleted is not written.

Nothing in the org could refuse it, so the sink remembers deletions.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.events import ContactChange, Kind
from streams.kafka.records import KafkaRecord
from streams.sink import deletions
from streams.sink.deletions import Deletions, deletions_of
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import SinkHarness, running_sink

PERSON = {"surname": "Lovelace", "emails": [{"email": "ada@engines.example"}], "job_title": "old"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


def released(org: SimulatedOrg) -> list[tuple[Any, Any]]:
    return [(one.get("Nylas_Contact_Id__c"), one.get("Nylas_Version__c")) for one in org.people()]


async def offer(sink: SinkHarness, version: int, contact: dict[str, Any] | None) -> str:
    """Sends one change of the contact, alone in its batch. Returns its outcome."""
    sink.offer("g/ada", version, contact)
    await sink.until_committed()
    return str(sink.outcomes()["g/ada"]["outcome"])


async def test_an_older_change_does_not_take_a_released_record_back() -> None:
    async with simulated_org() as org, running_sink(org.sync) as sink:
        assert await offer(sink, 1, PERSON) == "created"
        assert await offer(sink, 3, None) == "released"
        calls = org.calls.copy()
        assert await offer(sink, 2, PERSON | {"job_title": "between"}) == "stale"
        assert org.calls == calls
        assert released(org) == [(None, 3.0)]
        assert await offer(sink, 4, PERSON | {"job_title": "new"}) == "updated"
        assert released(org) == [("g/ada", 4)]


async def test_a_successor_knows_what_was_deleted_before() -> None:
    async with (
        simulated_org() as org,
        running_sink(org.sync, deleted_before=lambda: [("g/ada", 3)]) as sink,
    ):
        assert await offer(sink, 2, PERSON) == "stale"
        assert await offer(sink, 3, PERSON) == "created"  # in the same second the later one counts


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5))),
    st.sampled_from("abc"),
    st.integers(0, 5),
)
def test_a_change_is_outdated_if_it_is_older_than_any_deletion_of_its_contact(
    noted: list[tuple[str, int]], key: str, version: int
) -> None:
    known = Deletions()
    for deleted, at in noted:
        known.note(deleted, at)
    change = ContactChange(key, Kind.UPDATED, version, "", "", "webhook", 0, {})
    assert known.is_outdated(change) == any(
        deleted == key and version < at for deleted, at in noted
    )


def test_the_memory_is_bounded_and_forgets_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deletions, "REMEMBERED", 2)
    known = Deletions()
    for key in ("a", "b", "a", "c"):
        known.note(key, 5)
    changes = {key: ContactChange(key, Kind.UPDATED, 1, "", "", "webhook", 0, {}) for key in "abc"}
    assert {key: known.is_outdated(change) for key, change in changes.items()} == {
        "a": True,
        "b": False,
        "c": True,
    }


def test_deletions_are_read_from_outcomes_whatever_else_is_there() -> None:
    values = [
        orjson.dumps({"outcome": "released", "kind": "deleted", "version": 7}),
        orjson.dumps({"outcome": "created", "kind": "updated", "version": 8}),
        orjson.dumps({"kind": "deleted", "version": "9"}),
        b"[1]",
        b"\xff",
        None,
    ]
    records = [
        KafkaRecord("o", f"k{number}".encode(), value, []) for number, value in enumerate(values)
    ]
    records.append(KafkaRecord("o", b"\xff", values[0], []))
    assert list(deletions_of(records)) == [("k0", 7)]
