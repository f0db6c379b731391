"""Every record that people merged or deleted is followed to a living one, or counts as gone."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.candidates import MAX_MOVES, CandidateIndex
from connectors.salesforce.simulator.schema import make_id

KEY = "Nylas_Contact_Id__c"
IDS = [make_id("003", number) for number in range(1, 9)]
# of each record: living (-1), deleted (None), or the record that it was merged into
ENDS = st.lists(st.sampled_from([-1, None, *range(len(IDS))]), min_size=len(IDS), max_size=len(IDS))


def row(number: int, end: int | None) -> dict[str, Any]:
    master = None if end is None or end < 0 else IDS[end]
    return {
        "Id": IDS[number],
        KEY: f"g/{number}",
        "Email": f"p{number}@x.example",
        "IsDeleted": end != -1,
        "MasterRecordId": master,
    }


def expected(became: list[int | None], number: int) -> int | None:
    """The living record that a record became; None if there is none within the bound."""
    at: int | None = number
    for _ in range(MAX_MOVES + 1):
        if at is None:
            return None
        if became[at] == -1:
            return at
        at = became[at]
    return None


@given(ENDS, st.integers(0, len(IDS) - 1))
def test_every_chain_ends_where_people_led_it(became: list[int | None], start: int) -> None:
    rows = {record_id: row(place, became[place]) for place, record_id in enumerate(IDS)}
    candidates = CandidateIndex(None)
    candidates.add_rows("Contact", [rows[IDS[start]]])
    calls = 0
    while unread := candidates.unread_ids():
        calls += 1
        candidates.add_rows("Contact", [rows[record_id] for record_id in unread["Contact"]])
    assert calls <= len(IDS), "each record is asked for once"
    living = expected(became, start)
    key, addresses = f"g/{start}", [f"p{start}@x.example"]
    followed = candidates.followed_with_key(key)
    if became[start] == -1:
        assert (followed, candidates.is_deleted(key, addresses)) == (None, False)
        assert [record.id for record in candidates.with_key(key)] == [IDS[start]]
    elif living is None:
        assert (followed, candidates.is_deleted(key, addresses)) == (None, True)
    else:
        assert followed is not None
        assert followed.record.id == IDS[living]
        assert candidates.followed_with_address(addresses) == [followed]
        assert not candidates.is_deleted(key, addresses)
