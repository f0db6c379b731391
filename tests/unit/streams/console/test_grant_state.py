"""The grants that the console keeps: their state is that of the reader's table."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streams.console.state.grants import GrantState
from streams.kafka.records import KafkaRecord
from streams.reader.grant_events import GrantTable, parse_grant_event


def event(grant: str, kind: str, at: int, **fields: Any) -> KafkaRecord:
    value = {"type": kind, "id": "n", "time": at, "data": {"object": {"grant_id": grant, **fields}}}
    return KafkaRecord("grants.events", grant.encode(), orjson.dumps(value), [])


KINDS = st.sampled_from(
    ["grant.created", "grant.updated", "grant.expired", "grant.deleted", "grant.listed", "new"]
)
RECORDS = st.lists(
    st.one_of(
        st.builds(event, st.sampled_from("abc"), KINDS, st.integers(1, 9)),
        st.just(KafkaRecord("grants.events", b"a", b"no JSON", [])),
        st.just(KafkaRecord("grants.events", b"a", b'{"data": []}', [])),
        st.just(KafkaRecord("grants.events", b"a", None, [])),
    ),
    max_size=30,
)


def taken(*records: KafkaRecord, max_grants: int = 10) -> GrantState:
    state = GrantState(max_grants)
    for offset, each in enumerate(records):
        state.take(KafkaRecord(each.topic, each.key, each.value, [], 0, offset, 5_000))
    return state


@given(RECORDS)
def test_their_state_is_that_of_the_reader(records: list[KafkaRecord]) -> None:
    table, seen = GrantTable(), set()
    for each in records:
        found = parse_grant_event(KafkaRecord(each.topic, each.key, each.value, [], 0, 0, 5_000))
        if found is not None:
            table.apply(found)
            seen.add(found.grant)
    state = taken(*records)
    by_status = state.by_status()
    assert {grant for grants in by_status.values() for grant in grants} == seen
    for status, grants in by_status.items():
        assert grants == sorted(grants)
        for facts in map(state.facts, grants):
            assert facts.status == status == table.status.get(facts.grant, "")
            assert facts.since == table.since.get(facts.grant, 0)


def test_the_owner_stays_known_after_an_event_that_does_not_name_them() -> None:
    state = taken(
        event("a", "grant.listed", 1, email="ada@acme.example", provider="google"),
        event("a", "grant.expired", 2),
    )
    facts = state.facts("a")
    assert (facts.address, facts.provider) == ("ada@acme.example", "google")
    assert (facts.status, facts.last_event, facts.last_event_at) == ("expired", "grant.expired", 2)


def test_those_that_need_somebody_come_first() -> None:
    state = taken(
        event("deleted", "grant.deleted", 1),
        event("valid", "grant.created", 1),
        event("expired", "grant.expired", 1),
    )
    found = state.by_status().values()
    assert [grant for grants in found for grant in grants] == ["expired", "valid", "deleted"]


def test_grants_beyond_the_bound_are_counted() -> None:
    state = taken(
        event("a", "grant.created", 1),
        event("b", "grant.created", 1),
        event("a", "grant.expired", 2),
        max_grants=1,
    )
    assert {status: grants for status, grants in state.by_status().items() if grants} == {
        "expired": ["a"]
    }
    assert state.not_held == 1
