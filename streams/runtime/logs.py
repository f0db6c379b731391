"""Structured logs without personal data."""

import hashlib
import logging
import sys

import structlog

from streams.settings import ProcessSettings

# Libraries whose debug and info lines contain records and URLs; a URL of Nylas names a contact.
QUIET = ("faust", "mode", "aiokafka", "httpx", "httpcore", "aiohttp.access", "urllib3")


# structlog's own dict_tracebacks logs each frame's variables, which hold names and addresses.
STRUCTURED = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(settings: ProcessSettings, stage: str) -> None:
    """Sends the lines of structlog and of `logging` to stderr in one form. Call it once."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # The exception is rendered here, because ConsoleRenderer with rich would log the frames'
        # variables.
        STRUCTURED if settings.log_format == "json" else structlog.processors.format_exc_info,
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(stage=stage)


def reference(key: str | bytes) -> str:
    """A short hash of a contact key, to find a contact in the logs that do not name it."""
    data = key.encode(errors="replace") if isinstance(key, str) else key
    return hashlib.blake2b(data, digest_size=6).hexdigest()
