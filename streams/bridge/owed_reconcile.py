"""Remembers that a reconcile is owed: a notification was refused that Nylas does not send again.

A file keeps it for the next start, because the broker, the only other durable place, may be away
until this process stops or is killed.
"""

import contextlib
import os
import tempfile
from pathlib import Path

import structlog

log = structlog.get_logger()


def owed_file(topic_prefix: str) -> Path:
    """Where the bridges of a topic prefix on this machine keep it; TMPDIR moves it.

    In Kubernetes the folder has to be a volume: a container that is started again finds it there.
    """
    return Path(tempfile.gettempdir()) / f"contactstream-bridge-{topic_prefix}owed"


class OwedReconcile:
    """Whether a reconcile is owed. Call `load` at the start of the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._times = 0

    def load(self) -> None:
        """Takes over what an earlier process left owed."""
        if self._file.exists():
            self._times += 1
            log.warning("an earlier bridge still owed a reconcile", file=str(self._file))

    @property
    def owed(self) -> int:
        """How often something was lost since the last request; 0 if no reconcile is owed."""
        return self._times

    def note(self) -> None:
        """Something was lost. The file is written the first time, which takes a disk's sync."""
        self._times += 1
        if self._times > 1:
            return
        try:
            # Not through a link that somebody else has put into the shared folder.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(self._file, flags, 0o600)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning(
                "could not note for the next start that a reconcile is owed; if this process ends "
                "before the broker is back, run: contactstream reconcile --all",
                file=str(self._file),
                error=error.strerror,
            )

    def requested(self, times: int) -> None:
        """The broker has acknowledged the request for what was lost `times` times.

        What was lost meanwhile is still owed.
        """
        self._times -= times
        if not self._times:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self._file.unlink()
