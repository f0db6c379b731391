"""The compact table of Accounts against a dictionary."""

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.salesforce.account_table import AccountRow, AccountTable, SlotIndex

KEYS = st.integers(0, 300).map(lambda number: str(number).encode())


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=400))
def test_an_index_leads_to_what_was_put_last(steps: list[tuple[bytes, bool]]) -> None:
    keys: list[bytes] = []
    index, known = SlotIndex(keys.__getitem__), dict[bytes, int]()
    for key, stays in steps:
        if stays:
            keys.append(key)
            known[key] = len(keys) - 1
            index.put(key, known[key])
        else:
            known.pop(key, None)
            index.remove(key)
    assert {key: index.find(key) for key in set(keys)} == {key: known.get(key) for key in set(keys)}


HOST_NAMES = ["a.com", "b.a.com", "c.b.a.com", "d.a.com", "other.org"]
HOSTS = st.sampled_from(HOST_NAMES)
ROWS = st.builds(
    lambda number, host, parent, generation: AccountRow(
        f"001{number:012d}AAA",
        host,
        9 if host == "other.org" else 5,
        parent,
        20200101000000 + number % 3,
        generation,
    ),
    st.integers(0, 120),
    HOSTS,
    st.booleans(),
    st.integers(0, 1),
)


@settings(max_examples=80)
@given(st.lists(st.tuples(ROWS, st.integers(0, 3)), max_size=250))
def test_the_table_holds_what_was_put_and_not_removed(steps: list[tuple[AccountRow, int]]) -> None:
    table, known = AccountTable(), dict[str, AccountRow]()
    for row, removes in steps:
        if removes:
            table.put(row)
            known[row.id] = row
        else:
            table.remove(row.id)
            known.pop(row.id, None)
    assert len(table) == len(known)
    assert all(table.holds(row) for row in known.values())
    at = {host: [row for row in known.values() if row.host == host] for host in HOST_NAMES}
    best = {
        host: min(rows, key=lambda row: (row.has_parent, row.created, row.id)).id if rows else None
        for host, rows in at.items()
    }
    hosts = ["a.com", "b.a.com", "c.b.a.com", "d.a.com"]
    assert table.best_at("a.com", hosts) == [best[host] for host in hosts]
    assert table.shared_hosts == sum(len(rows) > 1 for rows in at.values())
    below = [host for host in hosts[1:] if at[host]]
    assert table.only_host_below("a.com", "a.com") == (below[0] if len(below) == 1 else None)
    assert table.has_domain("other.org") == bool(at["other.org"])
    others = table.ids_of_other_generations(0, 0, table.slots)
    assert sorted(others) == sorted(row.id for row in known.values() if row.generation)


def test_an_account_is_known_by_either_form_of_its_id() -> None:
    table = AccountTable()
    table.put(AccountRow("001000000000001AAA", "a.com", 5))
    assert "001000000000001" in table
    assert table.full_id("001000000000001") == "001000000000001AAA"
    table.remove("001000000000001")
    assert table.full_id("001000000000001AAA") is None
