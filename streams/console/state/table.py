"""A table from contact keys to a few numbers each, which holds millions of them in little memory.

Open addressing over arrays: 17 bytes a slot, of which at most two thirds are in use. A million
contacts take 36 MB, where a dictionary of objects would take 300 MB.
"""

from array import array
from typing import NamedTuple

# Slots, of which two thirds may be in use: 5.6 million contacts in 143 MB, and 214 MB while the
# table grows for the last time. An org of that size has more than one deployment.
MAX_SLOTS = 2**23

_FIRST_SLOTS = 2**10
_EMPTY = 0
_HASH_BITS = 2**64 - 1
_VERSION_BITS = 2**32 - 1


class PersonEntry(NamedTuple):
    """What the table holds of a contact."""

    code: int
    """What became of it, 0 to 255."""
    grant: int
    """The number of its grant."""
    version: int
    """Of its last outcome, in epoch seconds."""


class PeopleTable:
    """A dictionary from contact keys to entries.

    Keys are kept as hashes of 64 bits: among a million contacts two share one with a probability
    of 1 in 30 million. The hash is Python's own of bytes, which nobody outside can foresee.
    """

    def __init__(self, max_slots: int = MAX_SLOTS) -> None:
        self._max_slots = max_slots
        self._used = 0
        self._reserve(min(_FIRST_SLOTS, max_slots))

    def _reserve(self, slots: int) -> None:
        self._mask = slots - 1
        self._hashes = array("Q", bytes(8 * slots))
        self._codes = bytearray(slots)
        self._grants = array("I", bytes(4 * slots))
        self._versions = array("I", bytes(4 * slots))

    def __len__(self) -> int:
        return self._used

    @property
    def size_bytes(self) -> int:
        """Memory of the table."""
        return 17 * (self._mask + 1)

    def get(self, key: bytes) -> PersonEntry | None:
        """The entry of a contact; None without one."""
        slot = self._slot(_hash(key))
        return self._entry(slot) if self._hashes[slot] else None

    def put(self, key: bytes, entry: PersonEntry) -> bool:
        """Sets the entry of a contact. False if it is a new one and the table is full."""
        hashed = _hash(key)
        slot = self._slot(hashed)
        if self._hashes[slot] == _EMPTY:
            if 3 * (self._used + 1) > 2 * (self._mask + 1):
                if 2 * (self._mask + 1) > self._max_slots:
                    return False
                self._grow()
                slot = self._slot(hashed)
            self._hashes[slot] = hashed
            self._used += 1
        self._codes[slot] = entry.code
        self._grants[slot] = entry.grant
        self._versions[slot] = min(max(0, entry.version), _VERSION_BITS)
        return True

    def remove(self, key: bytes) -> None:
        """Removes a contact, if it is there."""
        hole = self._slot(_hash(key))
        if self._hashes[hole] == _EMPTY:
            return
        self._used -= 1
        # Those behind the hole move up to where a search for them begins, if that lies before it.
        slot = (hole + 1) & self._mask
        while hashed := self._hashes[slot]:
            distance = (slot - hashed) & self._mask
            if distance >= (slot - hole) & self._mask:
                self._copy(slot, hole)
                hole = slot
            slot = (slot + 1) & self._mask
        self._hashes[hole] = _EMPTY

    def clear(self) -> None:
        """Removes everything."""
        self._used = 0
        self._reserve(min(_FIRST_SLOTS, self._max_slots))

    def _slot(self, hashed: int) -> int:
        """Where the hash is, or where it would be put."""
        hashes, mask = self._hashes, self._mask
        slot = hashed & mask
        while hashes[slot] not in (_EMPTY, hashed):
            slot = (slot + 1) & mask
        return slot

    def _entry(self, slot: int) -> PersonEntry:
        return PersonEntry(self._codes[slot], self._grants[slot], self._versions[slot])

    def _copy(self, source: int, target: int) -> None:
        self._hashes[target] = self._hashes[source]
        self._codes[target] = self._codes[source]
        self._grants[target] = self._grants[source]
        self._versions[target] = self._versions[source]

    def _grow(self) -> None:
        hashes, codes, grants, versions = self._hashes, self._codes, self._grants, self._versions
        self._reserve(2 * len(hashes))
        for slot, hashed in enumerate(hashes):
            if hashed != _EMPTY:
                target = self._slot(hashed)
                self._hashes[target] = hashed
                self._codes[target] = codes[slot]
                self._grants[target] = grants[slot]
                self._versions[target] = versions[slot]


def _hash(key: bytes) -> int:
    """64 bits, never 0, which marks an empty slot."""
    return (hash(key) & _HASH_BITS) or 1
