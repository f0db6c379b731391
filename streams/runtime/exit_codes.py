"""Exit codes of the processes, and how a process ends itself at once."""

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

import structlog

log = structlog.get_logger()


class ExitCode(IntEnum):
    """Why a process ended itself: its exit code. What a shell or Python uses by itself (0, 1, 2,
    126 and more) is left out.

    README.md says to operators what each means.
    """

    PAUSED_TOO_LONG = 70
    """It was paused for so long that its partitions may have a new owner."""
    NOT_ACKNOWLEDGED = 71
    """The broker did not acknowledge a record in time."""
    UNEXPECTED_ERROR = 72
    """An error that nobody foresaw, in the middle of a batch."""
    RECORDS_MISSING = 73
    """Records of the log did not reach the stage; going on would commit past them."""
    OFFSET_OUT_OF_RANGE = 74
    """The committed offset lies below the start of the log: records were lost to retention."""
    STOP_OVERDUE = 75
    """An orderly stop took longer than the grace period allows."""
    CRASHED = 76
    """A service inside the process crashed."""
    NO_HEARTBEAT = 77
    """The group's coordinator has not heard of it for so long that its partitions may have a new
    owner.
    """
    UNREADABLE_STATE = 78
    """The table's changelog holds what this version cannot read."""
    PARTITION_COUNT_MISMATCH = 79
    """Topics that must share their partitioning do not."""
    KAFKA_REFUSED = 80
    """Kafka refused the login or a record, or its client cannot go on."""
    NO_COORDINATOR = 81
    """Kafka gave it a partition, and then did not say for long where to start in it."""
    INCOMPATIBLE = 82
    """The installed Faust is not the one that this version was made for."""


def die(code: ExitCode, reason: str, **context: object) -> NoReturn:
    """Says why and ends the process without running anything more: no `finally`, no commit, no
    goodbye to the group.
    """
    log.critical(
        "the process ends itself", exit=code.name.lower(), code=int(code), reason=reason, **context
    )
    sys.stderr.flush()
    os._exit(code)


Die = Callable[[ExitCode, str], NoReturn]
