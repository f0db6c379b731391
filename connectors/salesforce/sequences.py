"""Cuts sequences into parts, as itertools.batched does from Python 3.12 on."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def batched(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    """The items in parts of at most `size`, in their order."""
    return (items[start : start + size] for start in range(0, len(items), size))
