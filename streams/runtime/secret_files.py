"""Notices that files of secrets and certificates changed, and stops the process to start anew.

librdkafka and aiokafka read certificates and passwords once. A process that ends in good order
loses nothing, and its supervisor starts it with what the files hold then. A stage that reads a
secret again while it runs, as the bridge does with those of its webhook, leaves it out here.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from streams.runtime.exit_codes import ExitCode
from streams.runtime.signals import Stop
from streams.settings import SettingsError, SettingsGroup, given_files, load

log = structlog.get_logger()

# Between two looks. What changed counts once two looks in a row find the same, because a
# certificate and its key may be written one after the other.
CHECK_SECONDS = 5.0

# Kubernetes gives the new files to all replicas at about the same time. Each waits for a time of
# its own, up to this, so that they do not stop together.
SPREAD_SECONDS = 20.0


def watch_secret_files(
    stop: Stop, groups: Sequence[type[SettingsGroup]], failed: Callable[[], None]
) -> "asyncio.Task[None]":
    """Watches the files that settings of these groups came from, in the running event loop.

    It sets `stop`, with the exit code SECRETS_CHANGED, at most 2 * CHECK_SECONDS + SPREAD_SECONDS
    after the last change. While the new files cannot be used, the process goes on with the old
    ones, `failed` is called at each look, and the log has the reason. The caller keeps the task.
    """
    paths = given_files(groups)

    async def watch() -> None:
        changed = await changed_files(paths, lambda: unusable(groups), failed, CHECK_SECONDS)
        delay = random.uniform(0, SPREAD_SECONDS)  # noqa: S311  no secret depends on it
        log.info(
            "files of secrets changed; the process stops, to be started with them",
            files=changed,
            seconds=round(delay, 1),
        )
        await asyncio.sleep(delay)
        stop.end(ExitCode.SECRETS_CHANGED)

    return asyncio.create_task(watch(), name="secret files")


def fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """A hash of each file that can be read. Blocks."""
    found = {}
    for path in paths:
        try:
            found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError:
            continue  # it is being replaced: the next look finds it
    return found


async def changed_files(
    paths: Sequence[str],
    problem: Callable[[], str],
    failed: Callable[[], None],
    seconds: float,
) -> list[str]:
    """The files that changed since the call, once they can be used and stay as they are.

    `problem` says why they cannot, and is empty when they can; it blocks, in a thread. A file that
    is gone has not changed. `seconds` lie between two looks.
    """
    first = before = await asyncio.to_thread(fingerprints, paths)
    told = ""
    while True:
        await asyncio.sleep(seconds)
        now = await asyncio.to_thread(fingerprints, paths)
        changed = [path for path in paths if path in now and now[path] != first.get(path)]
        settled, before = now == before, now
        if not changed or not settled:
            continue
        reason = await asyncio.to_thread(problem)
        if not reason:
            return changed
        failed()
        if reason != told:
            log.warning(
                "changed files of secrets cannot be used; the old ones stay in use",
                files=changed,
                reason=reason,
            )
            told = reason


def unusable(groups: Iterable[type[SettingsGroup]]) -> str:
    """Why the settings of the groups cannot be loaded now; empty if they can. Blocks."""
    try:
        for group in groups:
            load(group)
    except SettingsError as error:
        return str(error)
    return ""
