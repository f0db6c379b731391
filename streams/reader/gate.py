"""Holds back bulk work while the stages behind are lagging."""

import asyncio
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

CHECK_EVERY = (
    1.0  # seconds: at the reader's rate a few pages pass between two looks, little beside the bound
)


class Gate:
    """Lets bulk work through while `read_lag()` is at most `bound`. `read_lag` blocks, and may
    raise KafkaException.
    """

    def __init__(
        self, read_lag: Callable[[], int], bound: int, on_wait: Callable[[], None]
    ) -> None:
        self._read_lag, self._bound, self._on_wait = read_lag, bound, on_wait
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._room = 0

    async def wait(self, records: int) -> None:
        """Returns when so many more records may be published. What was let through since the last
        look counts as lag.

        No bound in time: live changes go first, for as long as they take.
        """
        async with self._lock:  # in turn: whoever waits longest goes first
            while not (self._room > 0 and time.monotonic() - self._looked_at < CHECK_EVERY):
                try:
                    self._room = self._bound - await asyncio.to_thread(self._read_lag)
                except (
                    KafkaException
                ):  # the broker is away: the publisher says so, and the gate asks again
                    self._room = 0
                self._looked_at = time.monotonic()
                if self._room <= 0:
                    self._on_wait()
                    await asyncio.sleep(CHECK_EVERY)
            self._room -= records
