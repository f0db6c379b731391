"""The reader process: reads the settings, wires the objects, returns the exit status."""

import asyncio
import ctypes

from prometheus_client import CollectorRegistry

from streams.metrics import ReaderMetrics
from streams.reader.stage import Reader
from streams.runtime.ops import Health, OpsServer
from streams.settings import KafkaSettings, NylasSettings, ProcessSettings, ReaderSettings

STALLED_AFTER = 60.0  # seconds without a round of the main loop; a round takes POLL_SECONDS


M_ARENA_MAX, ARENAS = (
    -8,
    2,
)  # glibc's name for the option (malloc.h); two cores rarely wait for each other on two pools


def run(
    kafka: KafkaSettings, process: ProcessSettings, nylas: NylasSettings, settings: ReaderSettings
) -> int:
    """Runs the reader until SIGTERM or SIGINT; returns the process's exit code."""
    limit_malloc_arenas()
    registry = CollectorRegistry()
    metrics, health = ReaderMetrics(registry), Health(STALLED_AFTER)
    ops = OpsServer(process.listen, registry, health)
    ops.start()
    try:
        return asyncio.run(Reader(kafka, nylas, settings, metrics, health).main())
    finally:
        ops.stop()


def limit_malloc_arenas() -> None:
    """Keeps the C library's allocator to few pools. By default every thread has one, which keeps
    what it once held, and each reading of a topic brings five threads of a Kafka client. Where the
    library is not glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
