"""Changes the address book of one grant during a storm, and has the reader read it."""

import asyncio
import contextlib
import json
import time

from tests.faults.harness.environment import Environment
from tests.faults.harness.load import BOOK_GRANT
from tests.faults.harness.settings import NYLAS_AHEAD_SECONDS, TOPIC_PREFIX
from tests.support.kafka import Kafka

CHANGE_SECONDS = 1.5  # between two changes of the address book
RUN_SECONDS = 6.0  # between two requests to read it
FLUSH_SECONDS = 1.0  # the broker may be away: the producer sends the request when it is back

RUN_KINDS = ("backfill", "reconcile", "replay")


class AddressBookDriver:
    """The address book that changes while the reader reads it."""

    def __init__(self, environment: Environment) -> None:
        self._book = environment.book
        self._nylas, self._producer = environment.nylas, environment.producer
        self._runs = 0

    async def run(self) -> None:
        """Changes the book and requests runs in turns, until it is cancelled."""
        last_request = 0.0
        while True:
            await self._change_book()
            if time.monotonic() - last_request > RUN_SECONDS:
                last_request = time.monotonic()
                await self.request_run("backfill" if self._runs % 2 else "reconcile")
            await asyncio.sleep(CHANGE_SECONDS)

    async def request_run(self, kind: str) -> str:
        """Asks for the address book to be read, as the command does; returns the run's ID.

        Does not wait longer than a second for the broker's acknowledgement.
        """
        self._runs += 1
        now = int(time.time() + NYLAS_AHEAD_SECONDS)
        run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{kind}-{self._runs:06}"
        run = {
            "kind": kind,
            "grants": [BOOK_GRANT],
            "requested_at": now,
            "by": "storm",
            "max_delete_share": 1.0,
        }
        topic = TOPIC_PREFIX + "reader.runs"
        self._producer.produce(topic, json.dumps(run).encode(), run_id.encode())
        await asyncio.to_thread(self._producer.flush, FLUSH_SECONDS)
        return run_id

    async def _change_book(self) -> None:
        written, gone = self._book.change()
        change = {"grant_id": BOOK_GRANT, "upsert": written, "delete": gone, "notify": False}
        await self._nylas.send("/_sim/contacts", change)


def run_states(kafka: Kafka) -> dict[str, str]:
    """The state of every run in reader.runs, by its ID. Blocks; poison is left out.

    A run that waits for a later time is `scheduled`: a reconcile that closes the gaps of a backfill
    starts an hour after it, when the storm is long over.
    """
    states: dict[str, str] = {}
    now = time.time() + NYLAS_AHEAD_SECONDS  # the reader's clock
    for record in kafka.read("reader.runs"):
        name = (record.key or b"").decode(errors="replace")
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            run = json.loads(record.value or b"")
            if "/" not in name and run.get("kind") in RUN_KINDS:
                later = run.get("state") == "waiting" and run.get("not_before", 0) > now
                states[name] = "scheduled" if later else run.get("state", "waiting")
    return states
