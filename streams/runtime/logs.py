"""Structured logs without personal data."""

import hashlib
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import structlog
from structlog.typing import EventDict

from streams.settings import ProcessSettings, load

# Libraries whose debug and info lines contain records and URLs; a URL of Nylas names a contact.
QUIET = ("faust", "mode", "aiokafka", "httpx", "httpcore", "aiohttp.access", "urllib3")


# Between two log lines of librdkafka about the same thing.
SAME_LINE_SECONDS = 30.0

# What librdkafka logs about: FAIL, ERROR and the like. It has some fifty.
MAX_FACILITIES = 200


class RateLimit(logging.Filter):
    """Passes one line of each of librdkafka's facilities in SAME_LINE_SECONDS.

    The line that passes says how many did not. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._quiet_until: dict[object, float] = {}
        self._dropped: Counter[object] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes."""
        args = record.args if isinstance(record.args, tuple) else ()
        facility = args[0] if args else record.msg
        now = self._clock()
        if now < self._quiet_until.get(facility, now):
            self._dropped[facility] += 1
            return False
        if len(self._quiet_until) >= MAX_FACILITIES:
            self._quiet_until.clear()
        self._quiet_until[facility] = now + SAME_LINE_SECONDS
        if dropped := self._dropped.pop(facility, 0):
            record.msg, record.args = f"{record.getMessage()} ({dropped} more like it)", ()
        return True


CLIENT_LOGGER = logging.getLogger("contactstream.kafka")
"""For librdkafka's own lines. A client writes them to it while it is polled."""
CLIENT_LOGGER.addFilter(RateLimit())

_process_name = "command"


def process_name() -> str:
    """The stage that this process runs; `command` for a command of an operator."""
    return _process_name


# structlog's own dict_tracebacks logs each frame's variables, which hold names and addresses.
_FRAMES = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)

# Lines about the dead letters of one batch, which may be as many as its rows. These are enough to
# find the fault, and an org that refuses everything does not fill the disk.
MAX_DEAD_LETTER_LINES = 20

# Frames of an exception in a log line. The innermost ones show the place.
MAX_FRAMES = 50


def where(error: BaseException | None) -> str:
    """An exception by its type and place, without its text, which may quote a contact."""
    if error is None:
        return "unknown"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} at {code.co_filename}:{trace.tb_lineno} in {code.co_name}"


def _exceptions(error: BaseException) -> list[dict[str, Any]]:
    """Type and frames of an exception and its causes."""
    return [
        {
            "exc_type": each["exc_type"],
            "frames": [
                {name: frame[name] for name in ("filename", "lineno", "name")}
                for frame in each["frames"][-MAX_FRAMES:]
            ],
            # Of a group, the exceptions in it.
            **({"exceptions": inner} if (inner := _grouped(error, number)) else {}),
        }
        for number, each in enumerate(_FRAMES((type(error), error, error.__traceback__)))
    ]


def _grouped(error: BaseException, number: int) -> list[list[dict[str, Any]]]:
    if number or not isinstance(error, BaseExceptionGroup):
        return []
    return [_exceptions(each) for each in error.exceptions]


def _lines(exceptions: list[dict[str, Any]], indent: str = "") -> list[str]:
    """The same as lines for a person."""
    lines = []
    for each in exceptions:
        lines.append(f"{indent}{each['exc_type']}")
        lines += [
            f"{indent}  {frame['filename']}:{frame['lineno']} in {frame['name']}"
            for frame in each["frames"]
        ]
        for inner in each.get("exceptions", ()):
            lines += _lines(inner, indent + "    ")
    return lines


def _exception_processor(*, as_json: bool) -> structlog.typing.Processor:
    """Replaces `exc_info` by the exception's types and places."""

    def replace(_logger: object, _name: str, event: EventDict) -> EventDict:
        given = event.pop("exc_info", None)
        if given is True:
            given = sys.exc_info()
        error = given[1] if isinstance(given, tuple) else given
        if isinstance(error, BaseException):
            found = _exceptions(error)
            event["exception"] = found if as_json else "\n".join(_lines(found))
        return event

    return replace


class _WithoutExceptionTexts(logging.Filter):
    """Removes exceptions' texts from the messages of asyncio and Faust, which quote them.

    asyncio writes the failed task into the message, Faust the exception among its arguments. Faust
    also logs the traceback as text; `exc_text` is what another handler has rendered.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and keeps it."""
        if isinstance(record.args, tuple):
            record.args = tuple(_argument(each) for each in record.args)
        elif isinstance(record.args, Mapping):
            record.args = {name: _argument(each) for name, each in record.args.items()}
        if record.name == "asyncio":
            record.msg = str(record.msg).partition("\n")[0]
        record.exc_text = None
        return True


def _argument(value: object) -> object:
    return where(value) if isinstance(value, BaseException) else value


def _log_crash(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """Logs an exception that nobody handled. Python would print its text."""
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical(
        "the process ends by an unexpected error", exc_info=(kind, error, trace)
    )


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not isinstance(crash.exc_value, SystemExit):
        structlog.get_logger().critical(
            "a thread ended by an unexpected error",
            thread=crash.thread.name if crash.thread else "",
            exc_info=crash.exc_value,
        )


def configure(settings: ProcessSettings, stage: str) -> None:
    """Sends the lines of structlog and of `logging` to stderr in one form. Call it once.

    `stage` is the name of the process: a stage, or `command`.
    """
    global _process_name
    _process_name = stage
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_processor(as_json=settings.log_format == "json"),
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    handler.addFilter(_WithoutExceptionTexts())
    sys.excepthook, threading.excepthook = _log_crash, _log_thread_crash
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(stage=stage)


def configure_command(environ: Mapping[str, str] | None = None) -> None:
    """Sends warnings of a short command to stderr, for a person unless OPS_LOG_FORMAT says json.

    A command does its work even where a setting of the stages' log cannot be used.
    """
    environ = os.environ if environ is None else environ
    form = "json" if environ.get("OPS_LOG_FORMAT") == "json" else "console"
    configure(
        load(ProcessSettings, {"OPS_LOG_FORMAT": form, "OPS_LOG_LEVEL": "warning"}), "command"
    )


def reference(key: str | bytes) -> str:
    """A short hash of a contact key, to find a contact in the logs that do not name it."""
    data = key.encode(errors="replace") if isinstance(key, str) else key
    return hashlib.blake2b(data, digest_size=6).hexdigest()


class Placed(Protocol):
    """A record with its place in Kafka."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    @property
    def partition(self) -> int:
        """The partition in the topic."""
        ...

    @property
    def offset(self) -> int:
        """The offset in the partition."""
        ...


def place(record: Placed) -> dict[str, str | int]:
    """The fields of a log line that say which record it is about, for `**place(record)`.

    A line about a contact's record has `contact=reference(key)` as well.
    """
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


class ContactRecord(Placed, Protocol):
    """A record whose key is a contact key."""

    @property
    def key(self) -> bytes | None:
        """The contact key; None where another program wrote the record."""
        ...


def log_dead_letters(log: Any, letters: Sequence[tuple[ContactRecord, str]]) -> None:
    """Logs each record that became a dead letter, with its reason; of many only the first.

    `log` is the logger of the stage.
    """
    for record, reason in letters[:MAX_DEAD_LETTER_LINES]:
        log.warning(
            "record dead-lettered",
            reason=reason,
            **place(record),
            contact=reference(record.key or b""),
        )
    if (more := len(letters) - MAX_DEAD_LETTER_LINES) > 0:
        log.warning("more records of the same batch dead-lettered", records=more)
