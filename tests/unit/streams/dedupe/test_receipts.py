"""When the oldest event of a batch was received."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streams.dedupe.faust_batches import oldest_receipt
from streams.events import received_at

HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["received_ms", "origin"]),
        st.none()
        | st.integers(0, 10**16).map(lambda number: b"%d" % number)
        | st.integers(10**12, 10**13 - 1).map(lambda number: b"%d" % number)
        | st.sampled_from([b"", b"soon", b"-1", b"0000000000000", b"180000000000x"]),
    ),
    max_size=3,
).map(tuple)
BATCHES = st.lists(
    st.builds(SimpleNamespace, headers=HEADERS, timestamp=st.integers(-1, 2 * 10**12)), min_size=1
)


@given(BATCHES)
def test_it_is_the_earliest_of_the_receipts_of_each_event(batch: list[SimpleNamespace]) -> None:
    receipts = [
        received_at(dict(each.headers).get("received_ms"), each.timestamp) for each in batch
    ]
    assert oldest_receipt(batch) == min(receipts)
