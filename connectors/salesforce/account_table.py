"""Half a million Accounts in memory: their hosts and ranks, found by ID and by registrable domain.

An Account is one short byte string. The indexes are arrays of slot numbers, because dictionaries
with keys of their own would take three times the memory of the Accounts.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

ID_LENGTH = 18
# Of two IDs that are equal up to here, one is only spelled without its checksum.
SIGNIFICANT_ID_LENGTH = 15
# Generations are stored in a byte, creation dates in six.
GENERATIONS = 1 << 8
CREATED_END = 1 << 48
# Longer chains are too slow to walk for every person of the domain.
_MAX_CHAIN = 32
# So many that one of them is rehashed within a millisecond when it grows.
_SHARD_BITS = 10
_SHARDS = 1 << _SHARD_BITS
_FIRST_SIZE = 8
_EMPTY, _REMOVED = -1, -2
# The layout of a packed Account; byte strings compare in the order of the ranks.
_ID = slice(7, 7 + ID_LENGTH)
_SIGNIFICANT_ID = slice(7, 7 + SIGNIFICANT_ID_LENGTH)
_DOMAIN_LENGTH = 7 + ID_LENGTH
_HOST = slice(_DOMAIN_LENGTH + 1, None)


class AccountRow(NamedTuple):
    """What is known of one Account: its website's host, and its rank among those of the host.

    `host` is empty for an Account to which no website leads: deleted, or without a website of its
    own. `domain_length` is the number of characters at the end of `host` that are its registrable
    domain. `created` holds up to 14 digits, YYYYMMDDhhmmss. `generation` is the number of the full
    load that last showed the Account, modulo GENERATIONS. `further_hosts` are those that fields of
    the org's own name; an AccountTable does not read them, see `AccountDirectory`.
    """

    id: str
    host: str = ""
    domain_length: int = 0
    has_parent: bool = False
    created: int = 0
    generation: int = 0
    further_hosts: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no domain leads to the Account, so that it need not be kept."""
        return not self.host and not self.further_hosts


def _pack(row: AccountRow) -> bytes:
    """Sorts as the rank does: without a parent first, then the oldest, then the lower ID."""
    return b"".join(
        (
            bytes((row.has_parent,)),
            row.created.to_bytes(6, "big"),
            row.id.encode("ascii"),
            bytes((row.domain_length,)),
            row.host.encode("ascii"),
        )
    )


class SlotIndex:
    """A hash table of slot numbers that holds no keys: `key_of` reads the key of a slot.

    It grows in small parts, so that no single `add` takes long.
    """

    def __init__(self, key_of: Callable[[int], bytes]) -> None:
        self._key_of = key_of
        # Made when they are first used, because most directories are small.
        self._shards: dict[int, array[int]] = {}
        self._used = array("i", [0] * _SHARDS)  # with the removed ones, which stop no search

    def find(self, key: bytes) -> int | None:
        """The slot of a key."""
        shard, position = self._position(key)
        slot = shard[position]
        return slot if slot >= 0 else None

    def put(self, key: bytes, slot: int) -> None:
        """Leads a key to a slot, whether it is there already or not. `key_of(slot)` is the key."""
        shard, position = self._position(key)
        if shard[position] < 0:
            number = hash(key) & (_SHARDS - 1)
            self._used[number] += 1
            if self._used[number] * 3 > len(shard) * 2:
                self._grow(number)
                shard, position = self._position(key)
        shard[position] = slot

    def remove(self, key: bytes) -> None:
        """Forgets a key; nothing happens if it is not there."""
        shard, position = self._position(key)
        if shard[position] >= 0:
            shard[position] = _REMOVED

    def _position(self, key: bytes) -> tuple["array[int]", int]:
        """Where the key is, or the empty place where it belongs."""
        hashed = hash(key)
        number = hashed & (_SHARDS - 1)
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = array("i", [_EMPTY] * _FIRST_SIZE)
        last = len(shard) - 1
        position = (hashed >> _SHARD_BITS) & last
        key_of = self._key_of
        while (slot := shard[position]) != _EMPTY:
            if slot != _REMOVED and key_of(slot) == key:
                break
            position = (position + 1) & last
        return shard, position

    def _grow(self, number: int) -> None:
        """Makes room in a shard, and drops what was removed from it."""
        slots = [slot for slot in self._shards[number] if slot >= 0]
        size = _FIRST_SIZE
        while size < len(slots) * 3:
            size *= 2
        self._shards[number] = array("i", [_EMPTY] * size)
        self._used[number] = len(slots) + 1  # the one that comes next
        for slot in slots:
            shard, position = self._position(self._key_of(slot))
            shard[position] = slot


class _LargeDomain:
    """The Accounts of a domain that has many: by host, the best of each host first."""

    __slots__ = ("accounts", "below", "heaps")

    def __init__(self) -> None:
        self.heaps: dict[bytes, list[bytes]] = {}  # with Accounts that are gone meanwhile
        self.accounts: Counter[bytes] = Counter()  # at each host
        self.below: Counter[bytes] = Counter()  # hosts with Accounts below each host

    def add(self, packed: bytes) -> int:
        """Returns how many Accounts its host has now."""
        host = packed[_HOST]
        heapq.heappush(self.heaps.setdefault(host, []), packed)
        self.accounts[host] += 1
        if self.accounts[host] == 1:
            self.below.update(_parents(packed))
        return self.accounts[host]

    def remove(self, packed: bytes, is_live: Callable[[bytes], bool]) -> int:
        """Returns how many Accounts its host has left. `is_live` denies the removed one already."""
        host = packed[_HOST]
        self.accounts[host] -= 1
        left = self.accounts[host]
        if not left:
            del self.accounts[host], self.heaps[host]
            for parent in _parents(packed):
                self.below[parent] -= 1
                if not self.below[parent]:
                    del self.below[parent]
        elif len(self.heaps[host]) > 2 * left + _MAX_CHAIN:
            self.heaps[host] = [one for one in set(self.heaps[host]) if is_live(one)]
            heapq.heapify(self.heaps[host])
        return left


def _parents(packed: bytes) -> Iterator[bytes]:
    """The hosts above an Account's host, down to the registrable domain."""
    host, shortest = packed[_HOST], packed[_DOMAIN_LENGTH]
    while len(host) > shortest:
        host = host.partition(b".")[2]
        yield host


class AccountTable:
    """Accounts by ID and by registrable domain. Every method is fast, however many there are."""

    def __init__(self) -> None:
        self.shared_hosts = 0
        """The number of hosts that several Accounts have."""
        self._accounts: list[bytes | None] = []
        self._generations = bytearray()
        self._next: array[int] = array("i")  # the further Accounts of a domain; _EMPTY at the end
        self._free: list[int] = []
        self._by_id = SlotIndex(self._id_of)
        self._by_domain = SlotIndex(self._domain_of)  # the first Account of each chain
        self._large: dict[bytes, _LargeDomain] = {}

    def __len__(self) -> int:
        return len(self._accounts) - len(self._free)

    def __contains__(self, account_id: str) -> bool:
        return self._slot(account_id) is not None

    def full_id(self, account_id: str) -> str | None:
        """The 18-character ID of an Account that is known; `account_id` has 15 or 18."""
        slot = self._slot(account_id)
        return None if slot is None else self._packed(slot)[_ID].decode()

    def holds(self, row: AccountRow) -> bool:
        """Whether the row says nothing new."""
        slot = self._slot(row.id)
        if slot is None:
            return not row.host
        return self._accounts[slot] == _pack(row) and self._generations[slot] == row.generation

    def put(self, row: AccountRow) -> None:
        """Takes an Account with a host in place of what was known of it."""
        packed = _pack(row)
        slot = self._slot(row.id)
        if slot is not None:
            if self._accounts[slot] == packed:
                self._generations[slot] = row.generation
                return
            self._remove(slot)
        slot = self._new_slot(packed, row.generation)
        self._by_id.put(packed[_SIGNIFICANT_ID], slot)
        self._join(slot, packed)

    def remove(self, account_id: str) -> None:
        """Forgets an Account, if it is known."""
        slot = self._slot(account_id)
        if slot is not None:
            self._remove(slot)

    def ids_of_other_generations(self, generation: int, start: int, count: int) -> list[str]:
        """The IDs, among `count` slots from `start` on, of Accounts of another generation."""
        return [
            packed[_ID].decode()
            for slot in range(start, min(start + count, len(self._accounts)))
            if (packed := self._accounts[slot]) is not None
            and self._generations[slot] != generation
        ]

    @property
    def slots(self) -> int:
        """The number of slots, for `ids_of_other_generations`."""
        return len(self._accounts)

    def best_at(self, domain: str, hosts: list[str]) -> list[str | None]:
        """The ID of the best Account at each of these hosts of a registrable domain."""
        wanted = [host.encode() for host in hosts]
        large = self._large.get(domain.encode())
        if large is not None:
            return [self._best_of_heap(large.heaps.get(host)) for host in wanted]
        best: dict[bytes, bytes] = {}
        for packed in self._chain(domain):
            host = packed[_HOST]
            if host not in best or packed < best[host]:
                best[host] = packed
        return [best[host][_ID].decode() if host in best else None for host in wanted]

    def only_host_below(self, domain: str, host: str) -> str | None:
        """The one host with Accounts below a host of a registrable domain; None unless just one."""
        ending = b"." + host.encode()
        large = self._large.get(domain.encode())
        if large is None:
            found = {one[_HOST] for one in self._chain(domain) if one[_HOST].endswith(ending)}
        elif large.below.get(ending[1:]) == 1:
            found = {next(one for one in large.accounts if one.endswith(ending))}
        else:
            return None
        return found.pop().decode() if len(found) == 1 else None

    def has_domain(self, domain: str) -> bool:
        """Whether any Account's host is a registrable domain, or below it."""
        key = domain.encode()
        return key in self._large or self._by_domain.find(key) is not None

    def _best_of_heap(self, heap: list[bytes] | None) -> str | None:
        while heap and not self._is_live(heap[0]):
            heapq.heappop(heap)
        return heap[0][_ID].decode() if heap else None

    def _is_live(self, packed: bytes) -> bool:
        slot = self._by_id.find(packed[_SIGNIFICANT_ID])
        return slot is not None and self._accounts[slot] == packed

    def _slot(self, account_id: str) -> int | None:
        return self._by_id.find(account_id[:SIGNIFICANT_ID_LENGTH].encode())

    def _packed(self, slot: int) -> bytes:
        packed = self._accounts[slot]
        if packed is None:
            raise LookupError(f"slot {slot} is free")
        return packed

    def _id_of(self, slot: int) -> bytes:
        return self._packed(slot)[_SIGNIFICANT_ID]

    def _domain_of(self, slot: int) -> bytes:
        packed = self._packed(slot)
        return packed[-packed[_DOMAIN_LENGTH] :]

    def _new_slot(self, packed: bytes, generation: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._accounts[slot], self._generations[slot] = packed, generation
            self._next[slot] = _EMPTY
            return slot
        self._accounts.append(packed)
        self._generations.append(generation)
        self._next.append(_EMPTY)
        return len(self._accounts) - 1

    def _chain_slots(self, domain: bytes) -> list[int]:
        slots: list[int] = []
        slot = self._by_domain.find(domain)
        while slot is not None and slot != _EMPTY:
            slots.append(slot)
            slot = self._next[slot]
        return slots

    def _chain(self, domain: str) -> list[bytes]:
        return [self._packed(slot) for slot in self._chain_slots(domain.encode())]

    def _join(self, slot: int, packed: bytes) -> None:
        domain = self._domain_of(slot)
        large = self._large.get(domain)
        if large is not None:
            self.shared_hosts += large.add(packed) == 2
            return
        chain = self._chain_slots(domain)
        host = packed[_HOST]
        self.shared_hosts += sum(self._packed(one)[_HOST] == host for one in chain) == 1
        if len(chain) < _MAX_CHAIN:
            self._next[slot] = chain[0] if chain else _EMPTY
            self._by_domain.put(domain, slot)
            return
        self._by_domain.remove(domain)
        large = self._large[domain] = _LargeDomain()
        for one in (*chain, slot):
            large.add(self._packed(one))

    def _remove(self, slot: int) -> None:
        packed, domain = self._packed(slot), self._domain_of(slot)
        large = self._large.get(domain)
        if large is None:
            self._leave_chain(slot, packed, domain)
        self._by_id.remove(packed[_SIGNIFICANT_ID])
        if large is not None:
            self.shared_hosts -= large.remove(packed, self._is_live) == 1
            if not large.accounts:
                del self._large[domain]
        self._accounts[slot] = None
        self._free.append(slot)

    def _leave_chain(self, slot: int, packed: bytes, domain: bytes) -> None:
        chain = self._chain_slots(domain)
        host = packed[_HOST]
        self.shared_hosts -= sum(self._packed(one)[_HOST] == host for one in chain) == 2
        place = chain.index(slot)
        if place:
            self._next[chain[place - 1]] = self._next[slot]
        elif len(chain) > 1:
            self._by_domain.put(domain, chain[1])
        else:
            self._by_domain.remove(domain)
