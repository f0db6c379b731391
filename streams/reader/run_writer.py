"""Writes to reader.runs: requests, states and progress of runs."""

import time
from collections.abc import Mapping

import structlog

from streams.kafka.records import KafkaRecord
from streams.reader.context import Publish
from streams.runs import (
    Progress,
    Run,
    RunKind,
    RunLog,
    cancel_key,
    continue_key,
    new_run_id,
    progress_key,
    progress_record,
    run_key,
    run_record,
)
from streams.topics import Topics

log = structlog.get_logger()


class RunWriter:
    """Writes runs. Its methods return once the records are acknowledged.

    `run_log` is read from the topic by its owner. Here it is only brought up to date where what was
    just written must be seen at once.
    """

    def __init__(self, run_log: RunLog, publish: Publish, topics: Topics) -> None:
        self._log, self._publish, self._topics = run_log, publish, topics

    async def request(self, run: Run, run_id: str | None = None) -> str:
        """Asks for a run; returns its ID.

        Nothing happens if `run_id` is known already: after a crash an event is handled again.
        """
        run_id = run_id or new_run_id(run.kind, run.requested_at)
        if run_id not in self._log.runs:
            await self.write(run_id, run)
            # Before the topic is read up to here: the next event may ask for the same run.
            self._log.runs.setdefault(run_id, run)
        return run_id

    async def request_all(self, requests: Mapping[str, Run]) -> None:
        """Asks for runs, by ID, with one acknowledgement for all; known ones are left out."""
        new = {run_id: run for run_id, run in requests.items() if run_id not in self._log.runs}
        await self._publish([run_record(self._topics, run_id, run) for run_id, run in new.items()])
        for run_id, run in new.items():
            self._log.runs.setdefault(run_id, run)

    async def reconcile_after_loss(self, topic: str) -> None:
        """Asks for a reconcile of everything, which makes up for records lost on `topic`."""
        log.error("records were lost unread; a reconcile of everything was requested", topic=topic)
        await self.request(Run(RunKind.RECONCILE, None, int(time.time()), topic))

    async def write(self, run_id: str, run: Run) -> None:
        """Writes a run in its present state."""
        await self._publish([run_record(self._topics, run_id, run)])

    async def write_progress(self, run_id: str, progress: Mapping[str, Progress]) -> None:
        """Writes the progress of grants, by ID."""
        await self._publish(
            [progress_record(self._topics, run_id, grant, one) for grant, one in progress.items()]
        )

    async def erase(self, run_id: str) -> None:
        """Writes tombstones for a run, its grants, and what people asked of it."""
        keys = [progress_key(run_id, grant) for grant in self._log.progress(run_id)]
        keys.append(run_key(run_id))
        if run_id in self._log.cancelled:
            keys.append(cancel_key(run_id))
        if run_id in self._log.continued:
            keys.append(continue_key(run_id))
        await self._publish([KafkaRecord(self._topics.runs.name, key, None, []) for key in keys])
        for key in keys:
            self._log.apply(key, None)
