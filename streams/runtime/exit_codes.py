"""Exit codes of the processes, and how a process ends itself at once."""

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

import structlog

log = structlog.get_logger()


class ExitCode(IntEnum):
    """Why a process ended itself.

    The codes that a shell or Python uses (0, 1, 2, 126 and above) are left out. The operators'
    table of exit codes adds a remedy to each.
    """

    PAUSED_TOO_LONG = 70
    """The process was paused for so long that its partitions may belong to another process."""
    NOT_ACKNOWLEDGED = 71
    """Kafka did not acknowledge a batch of dedupe for longer than a leader election takes."""
    UNEXPECTED_ERROR = 72
    """A batch failed with an error that the code does not handle; the log has it."""
    RECORDS_MISSING = 73
    """Records of contacts.events did not reach dedupe. Going on would commit past them."""
    OFFSET_OUT_OF_RANGE = 74
    """A position is outside of the log: records expired unread, or the log lost its end, or the
    topic was deleted and created again.
    """
    STOP_OVERDUE = 75
    """An orderly stop took longer than its time limit."""
    CRASHED = 76
    """A part of the process failed with an error; the log has it."""
    NO_HEARTBEAT = 77
    """The group's coordinator did not answer a worker of dedupe for longer than a leader election
    takes, or does not count it as a member any more.
    """
    UNREADABLE_STATE = 78
    """The changelog of dedupe's table has an entry that this version cannot read."""
    PARTITION_COUNT_MISMATCH = 79
    """contacts.events or the changelog has not KAFKA_EVENTS_PARTITIONS partitions, or another topic
    has more than one.
    """
    KAFKA_REFUSED = 80
    """Kafka refused the login, a record or a transactional ID, or its client reported a fatal
    error. Such an error is also that Kafka excluded the producer, after an outage.
    """
    NO_COORDINATOR = 81
    """Kafka assigned a partition, and did not exclude its last writer, or did not answer at which
    offset to start.
    """
    INCOMPATIBLE = 82
    """The installed Faust is not the version that this program requires."""
    BROKER_UNAVAILABLE = 83
    """No broker could be reached when the Kafka clients of dedupe started."""
    TOPIC_REPLACED = 84
    """A topic that the process reads was deleted, or was deleted and created again."""
    GENERATION_REPLACED = 86
    """The group of a worker of dedupe gave its work to another generation while it started."""
    SECRETS_CHANGED = 87
    """A file of a secret or a certificate changed: the process stopped in good order, to be started
    with the new one.
    """
    MODE_REQUIRED = 89
    """Nobody has chosen a mode, and the deployment has written nothing to the org yet."""
    ORG_CHANGED = 88
    """The login leads to another Salesforce org than the one that this deployment writes to, as
    after the refresh of a sandbox, or another org was adopted.
    """


def die(code: ExitCode, reason: str, **context: object) -> NoReturn:
    """Logs the reason and ends the process at once.

    Nothing more runs: no `finally`, no commit, no farewell to the consumer group.
    """
    log.critical(
        "the process ends itself", exit=code.name.lower(), code=int(code), reason=reason, **context
    )
    sys.stderr.flush()
    os._exit(code)


def end_finished(status: int) -> NoReturn:
    """Ends a process at once whose work is done, but whose interpreter does not end by itself."""
    log.warning("the work is done, but the interpreter did not end in time", status=int(status))
    sys.stderr.flush()
    os._exit(status)


Die = Callable[[ExitCode, str], NoReturn]
"""`die`, or what a test passes in its place."""

EndFinished = Callable[[int], NoReturn]
"""`end_finished`, or what a test passes in its place."""
