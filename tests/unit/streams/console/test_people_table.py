"""The table of contacts: it equals a dictionary, and a million contacts take little memory."""

from hypothesis import given
from hypothesis import strategies as st

from streams.console.state.table import PeopleTable, PersonEntry

KEYS = st.integers(0, 40).map(lambda number: b"grant/%d" % number)
ENTRIES = st.builds(
    PersonEntry, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)
)
STEPS = st.lists(st.tuples(KEYS, st.none() | ENTRIES), max_size=200)


@given(STEPS)
def test_it_equals_a_dictionary(steps: list[tuple[bytes, PersonEntry | None]]) -> None:
    table, model = PeopleTable(2**8), dict[bytes, PersonEntry]()
    for key, entry in steps:
        if entry is None:
            table.remove(key)
            model.pop(key, None)
        else:
            assert table.put(key, entry)
            model[key] = entry
        assert len(table) == len(model)
    for number in range(41):
        key = b"grant/%d" % number
        assert table.get(key) == model.get(key)


@given(st.lists(KEYS, min_size=1, unique=True))
def test_one_that_is_full_takes_no_new_contact_and_keeps_those_it_has(keys: list[bytes]) -> None:
    table = PeopleTable(8)  # of which five may be in use
    taken = [key for place, key in enumerate(keys) if table.put(key, PersonEntry(1, place, 1))]
    assert taken == keys[:5]
    assert all(table.put(key, PersonEntry(2, 0, 2)) for key in taken)
    table.remove(taken[0])
    assert table.put(b"another/1", PersonEntry(3, 0, 3))


def test_it_is_empty_after_it_was_cleared() -> None:
    table = PeopleTable()
    table.put(b"grant/1", PersonEntry(1, 1, 1))
    table.clear()
    assert len(table) == 0
    assert table.get(b"grant/1") is None
