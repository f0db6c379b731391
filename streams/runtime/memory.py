"""Keeps the memory of a long-lived process flat, and Python's garbage collection short."""

import ctypes
import gc

# The option's number in glibc's malloc.h.
M_ARENA_MAX = -8

# Two are enough: the threads of a process of ours rarely allocate at the same time.
MAX_ARENAS = 2


def limit_malloc_arenas() -> None:
    """Limits glibc to MAX_ARENAS memory pools; does nothing with another C library.

    By default every thread has a pool that keeps what it once held. Each reading of a topic brings
    five threads of a Kafka client.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, MAX_ARENAS)


def freeze_startup_objects() -> None:
    """Exempts everything that exists now from garbage collection, such as imported modules.

    They never become garbage, and looking through them keeps the event loop for some 0.1 s each
    time that many objects were made.
    """
    gc.collect()
    gc.freeze()
