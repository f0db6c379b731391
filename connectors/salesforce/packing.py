"""Packs rows into Composite calls within Salesforce's limits."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from connectors.salesforce.api.composite import MAX_COLLECTIONS, MAX_ROWS
from connectors.salesforce.org_fields import KEY_FIELD
from connectors.salesforce.rows import Call, Collection, Op, WriteRow


@dataclass(frozen=True, slots=True)
class PackLimits:
    """Collections of one call, rows of one collection, and calls in all; None is no limit.

    `mixed_updates`: a collection of updates may have rows of several sObjects.
    """

    collections: int = MAX_COLLECTIONS
    rows: int = MAX_ROWS
    calls: int | None = None
    mixed_updates: bool = True

    def kind(self, row: WriteRow) -> "_Kind":
        """What the rows of one collection have in common."""
        return "" if self.mixed_updates and row.op == "update" else row.sobject, row.op


DEFAULT_LIMITS = PackLimits()


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows packed into calls, and the rows that had no room.

    Calls of one group share an Account, a person or a record, and go one after the other. Groups
    may be in flight together.
    """

    groups: tuple[tuple[Call, ...], ...]
    leftovers: tuple[WriteRow, ...] = ()


def pack(rows: Sequence[WriteRow], limits: PackLimits = DEFAULT_LIMITS) -> Packed:
    """Packs rows into Composite calls. Rows given first go first (put earlier leftovers in front).

    A call takes the fullest collections, so that a few odd rows never displace hundreds. The kind
    of the first row always comes along, so that no leftover waits for ever. Rows of one Account,
    person or record stay together in one call as long as they fit; otherwise their calls are in one
    group. A call has each record only once.
    """
    bundles = _bundles(rows)
    calls: list[Call] = []
    while bundles and (limits.calls is None or len(calls) < limits.calls):
        call, bundles = _fill(bundles, limits)
        calls.append(call)
    leftovers = sorted((place for bundle in bundles for place, _ in bundle))
    return Packed(_groups(calls), tuple(rows[place] for place in leftovers))


def halve(call: Call) -> tuple[Call, ...]:
    """Splits a call in two, by collections, or by rows if it has one collection.

    A call of a single row comes back as it is. For HALVE and BISECT: at most eleven steps lead from
    a full call to a poison row.
    """
    if len(call) > 1:
        middle = (len(call) + 1) // 2
        return call[:middle], call[middle:]
    collection = call[0]
    middle = (len(collection.rows) + 1) // 2
    parts = (collection.rows[:middle], collection.rows[middle:])
    return tuple((replace(collection, rows=rows),) for rows in parts if rows)


def merge_groups(
    groups: Iterable[tuple[Call, ...]], collections: int = MAX_COLLECTIONS
) -> tuple[tuple[Call, ...], ...]:
    """The same collections in fewer calls: calls that are alone in their group share one.

    For rows that were packed by the size of their collections. A call has each record only once,
    and calls that share an Account, a person or a record are in one group, as `pack` leaves them.
    """
    groups = list(groups)
    merged: list[Call] = []
    # the fullest first, each into the first call that has room
    for (call,) in sorted((group for group in groups if len(group) == 1), key=_fullness):
        for place, other in enumerate(merged):
            if len(other) + len(call) <= collections and not _records(other) & _records(call):
                merged[place] = other + call
                break
        else:
            merged.append(call)
    return _groups([*merged, *(call for group in groups if len(group) > 1 for call in group)])


def _fullness(group: tuple[Call, ...]) -> int:
    return -len(group[0])


def _records(call: Call) -> set[str]:
    return {_identity(row) for collection in call for row in collection.rows}


# An sObject and an operation. The sObject is empty where there may be several.
_Kind = tuple[str, Op]
# Rows that share an Account, a person or a record, with their places in the input.
_Bundle = list[tuple[int, WriteRow]]


def conflict_tokens(row: WriteRow) -> set[tuple[str, str]]:
    """The row's Account, its people and its record: no two requests in flight may share one."""
    tokens = {("person", person) for person in row.people}
    tokens.add(("record", _identity(row)))
    if key := row.fields.get(KEY_FIELD):
        tokens.add(("record", str(key)))
    if row.account_id:
        tokens.add(("account", row.account_id))
    return tokens


def _identity(row: WriteRow) -> str:
    return str(row.fields["Id"] if row.op == "update" else row.fields[KEY_FIELD])


def _bundles(rows: Sequence[WriteRow]) -> list[_Bundle]:
    """The rows that are connected by conflict tokens; bundles and their rows in input order."""
    return [
        [(place, rows[place]) for place in places]
        for places in _components([conflict_tokens(row) for row in rows])
    ]


def _components(tokens: Sequence[Iterable[tuple[str, str]]]) -> list[list[int]]:
    """The places that are connected by shared tokens (a union-find)."""
    parents = list(range(len(tokens)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    first: dict[tuple[str, str], int] = {}
    for place, own in enumerate(tokens):
        for token in own:
            seen = first.setdefault(token, place)
            if seen != place:  # a token of one row alone, as most are, connects nothing
                one, other = sorted((root(seen), root(place)))
                parents[other] = one
    found: dict[int, list[int]] = {}
    for place in range(len(tokens)):
        found.setdefault(root(place), []).append(place)
    return list(found.values())


def _fill(bundles: Sequence[_Bundle], limits: PackLimits) -> tuple[Call, list[_Bundle]]:
    """One call made of the bundles, and the bundles that are left."""
    room = _room(bundles, limits)
    taken: dict[_Kind, list[WriteRow]] = {}
    records: set[str] = set()
    left: list[_Bundle] = []
    for number, bundle in enumerate(bundles):
        if len(bundle) == 1:
            whole = room[limits.kind(bundle[0][1])] > 0
        else:
            needed = Counter(limits.kind(row) for _, row in bundle)
            whole = all(room[kind] >= count for kind, count in needed.items())
        # An Account with more rows than a collection is worth splitting, although its calls then go
        # one after the other. So is the very first bundle, or nothing might ever fit.
        if not whole and number and len(bundle) <= limits.rows:
            left.append(bundle)
            continue
        unplaced: _Bundle = []
        for place, row in bundle:
            kind = limits.kind(row)
            if room[kind] and _identity(row) not in records:
                room[kind] -= 1
                records.add(_identity(row))
                taken.setdefault(kind, []).append(row)
            else:
                unplaced.append((place, row))
        if unplaced:
            left.append(unplaced)
    call: Call = tuple(
        Collection(op, tuple(ordered[start : start + limits.rows]))
        for (_, op), kept in taken.items()
        for ordered in [sorted(kept, key=lambda row: (row.sobject, row.account_id or ""))]
        for start in range(0, len(ordered), limits.rows)
    )
    return call, left


def _room(bundles: Sequence[_Bundle], limits: PackLimits) -> Counter[_Kind]:
    """How many rows of each kind one call takes.

    It has a collection of the first row's kind, and then the fullest collections.
    """
    counts = Counter(limits.kind(row) for bundle in bundles for _, row in bundle)
    chunks = sorted(
        (
            (min(limits.rows, count - start), kind)
            for kind, count in counts.items()
            for start in range(0, count, limits.rows)
        ),
        reverse=True,
    )
    first = next(chunk for chunk in chunks if chunk[1] == limits.kind(bundles[0][0][1]))
    chunks.remove(first)
    room: Counter[_Kind] = Counter()
    for size, kind in [first, *chunks[: limits.collections - 1]]:
        room[kind] += size
    return room


def _groups(calls: Sequence[Call]) -> tuple[tuple[Call, ...], ...]:
    """The calls in groups that share no conflict token."""
    if len(calls) == 1:
        return ((calls[0],),)
    tokens = [
        {token for collection in call for row in collection.rows for token in conflict_tokens(row)}
        for call in calls
    ]
    return tuple(tuple(calls[place] for place in places) for places in _components(tokens))
