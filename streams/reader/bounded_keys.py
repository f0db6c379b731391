"""Holds a bounded number of contact keys of a topic that is read in its order: plain data.

A key whose last record does not count is given back, so that the number is known only at the end of
the topic. Where too many keys would be held meanwhile, only a part of all keys is: every second,
every fourth and so on. What is held then tells how many there are in all, and the other parts can
be read one after the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar
from zlib import crc32

HeldT = TypeVar("HeldT")

# Keys held at once with a number each, some 45 MB. It is as many as a reconcile compares together.
MAX_KEYS_HELD = 250_000


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One of `parts` parts of all contact keys; the same key is always in the same part."""

    index: int = 0
    parts: int = 1

    def holds(self, key: str) -> bool:
        """Whether the key is in this part."""
        if self.parts == 1:
            return True
        return crc32(key.encode(errors="surrogatepass")) % self.parts == self.index

    def half(self) -> "KeyPart":
        """One of the two halves of this part."""
        return KeyPart(self.index, 2 * self.parts)

    def others(self) -> Iterator["KeyPart"]:
        """Every other part of the same size."""
        return (KeyPart(index, self.parts) for index in range(self.parts) if index != self.index)


WHOLE = KeyPart()


class BoundedKeys(Generic[HeldT]):
    """Contact keys of a part, each with a value; the part is halved where they are too many.

    Only the whole is halved, and what it became: a part that was asked for is held as it is.
    """

    def __init__(self, part: KeyPart = WHOLE, most: int = MAX_KEYS_HELD) -> None:
        self.part, self.held = part, dict[str, HeldT]()
        self._most = most if part == WHOLE else None

    def put(self, key: str, value: HeldT) -> None:
        """Holds the key if it is in the part."""
        if not self.part.holds(key):
            return
        self.held[key] = value
        while self._most is not None and len(self.held) > self._most:
            self.part = self.part.half()
            self.held = {each: held for each, held in self.held.items() if self.part.holds(each)}

    def drop(self, key: str) -> None:
        """Gives the key back if it is held."""
        self.held.pop(key, None)
