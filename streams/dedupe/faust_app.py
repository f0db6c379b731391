"""Builds the Faust application of dedupe, and runs it until the process is asked to stop."""

import asyncio
from collections.abc import Callable, Mapping

from aiokafka.errors import KafkaConnectionError

from streams.dedupe.faust_batches import App
from streams.dedupe.faust_login import credentials
from streams.dedupe.refusals import refusal
from streams.runtime.exit_codes import ExitCode
from streams.runtime.logs import where
from streams.runtime.ops import Health
from streams.runtime.watchdog import Watchdog
from streams.settings import KafkaSettings

# Between two commits: what a crash repeats at most, besides the batch in flight. Who waits for
# dedupe at the end of a run waits for its commit.
COMMIT_SECONDS = 0.25

# One fetch from one partition. Holds the largest event, or some thousands of common ones.
FETCH_BYTES = 4 * 1024 * 1024


def make_app(
    kafka: KafkaSettings,
    group_id: str,
    session: float,
    health: Health,
    commit_notes: Mapping[str, str],
    standbys: int = 0,
    on_commit_note: Callable[[str], None] = lambda note: None,
) -> App:
    """The Faust application: its consumer group, its brokers, and its reports to the probes.

    `session` is the session time-out in seconds. `commit_notes` is the metadata of each commit, by
    topic. `standbys` are the other workers that keep a copy of each partition of the table.
    `on_commit_note` gets the metadata of the commits from which the group goes on.
    """
    return App(
        group_id,
        commit_notes=commit_notes,
        on_commit_note=on_commit_note,
        standbys=standbys,
        on_working=health.ready,
        on_waiting=health.waiting,
        on_progress=health.beat,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_client_id=group_id,
        broker_credentials=credentials(kafka),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 10,
        broker_commit_interval=COMMIT_SECONDS,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
    )


async def run_until_stopped(
    app: App, stopping: asyncio.Event, watchdog: Watchdog, stop_seconds: float
) -> None:
    """Runs the application until `stopping` is set, then stops it within `stop_seconds`.

    Ends the process when the application fails (see `failure`), or when the stop takes too long.
    """
    starting = asyncio.create_task(app.start())
    crashed = asyncio.create_task(app.wait_until_stopped())
    asked = asyncio.create_task(stopping.wait())
    starting.add_done_callback(
        lambda done: None if done.cancelled() or not done.exception() else crashed.cancel()
    )
    await asyncio.wait({crashed, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        failed = starting.done() and not starting.cancelled()
        reason = starting.exception() if failed else None
        app.die(*failure(reason or app.crash_reason, joined=app.rebalancing_count > 0))
    watchdog.stop_within(stop_seconds)
    await app.stop()
    for task in (starting, crashed):
        task.cancel()


def failure(error: BaseException | None, *, joined: bool) -> tuple[ExitCode, str]:
    """The exit code and the reason for an application that failed.

    A broker may go away after the start checks and before Faust connects: aiokafka tries the
    bootstrap servers only once, and raises KafkaConnectionError. `joined`: the group has assigned
    partitions to this worker before, so that it was connected.
    """
    if refused := refusal(error):
        return refused
    if isinstance(error, KafkaConnectionError) and not joined:
        return ExitCode.BROKER_UNAVAILABLE, f"no broker could be reached: {error}"
    return ExitCode.CRASHED, where(error)
