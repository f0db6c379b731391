"""Long work of the event loop in rounds, between which other requests get their turn."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")

# Items of a round, each of which takes some microseconds: a round takes a few milliseconds.
ROUND_ITEMS = 500


async def in_rounds(items: Sequence[ItemT]) -> AsyncIterator[Sequence[ItemT]]:
    """The items in parts of ROUND_ITEMS; other requests run before the next part."""
    for start in range(0, len(items), ROUND_ITEMS):
        yield items[start : start + ROUND_ITEMS]
        await asyncio.sleep(0)


async def with_pauses(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces of an answer; other requests run before the next piece is made."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
