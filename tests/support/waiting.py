"""Waits for a condition of a test: polls until a deadline, instead of sleeping for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_SECONDS = 0.05


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """Calls `condition` until it returns something true, and returns that. Blocks.

    Raises AssertionError, with `what` was waited for, after `seconds`.
    """
    ends = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {found!r})")
        time.sleep(POLL_SECONDS)
    return found


@overload
async def until(condition: Callable[[], Awaitable[T]], what: str, seconds: float = 30.0) -> T: ...


@overload
async def until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T: ...


async def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """`wait_until` without blocking the event loop; `condition` may be a coroutine function."""
    ends = time.monotonic() + seconds
    while True:
        answer = condition()
        found = await answer if isinstance(answer, Awaitable) else answer
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {found!r})")
        await asyncio.sleep(POLL_SECONDS)
