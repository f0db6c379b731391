"""A time limit for each of many waits, with one timer for all of them.

`asyncio.timeout` makes a timer for each wait, which costs as much as the signature of a webhook.
"""

import asyncio
from typing import Any


class Deadlines:
    """Cancels futures that are not done at their time.

    The times of later waits are not earlier: all waits are allowed the same number of seconds.
    """

    def __init__(self) -> None:
        self._open: dict[asyncio.Future[Any], float] = {}  # with its time, the earliest first
        self._expired: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, future: "asyncio.Future[None]", until: float) -> None:
        """Waits for the future until that time of the event loop's clock.

        Raises TimeoutError after it, and what the future raises.
        """
        self._open[future] = until
        if self._timer is None:
            self._timer = future.get_loop().call_at(until, self._expire)
        try:
            await future
        except asyncio.CancelledError:
            if future in self._expired:
                raise TimeoutError from None
            raise
        finally:
            self._open.pop(future, None)
            self._expired.discard(future)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for future, until in list(self._open.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._expire)
                break
            del self._open[future]
            if not future.done():
                self._expired.add(future)
                future.cancel()
