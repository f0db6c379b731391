"""Limits the memory pools of the C library, so that the memory of the reader stays flat."""

import ctypes

# The option's number in glibc's malloc.h.
M_ARENA_MAX = -8

# Two are enough: the threads of the reader rarely allocate at the same time.
MAX_ARENAS = 2


def limit_malloc_arenas() -> None:
    """Limits glibc to MAX_ARENAS memory pools; does nothing with another C library.

    By default every thread has a pool that keeps what it once held. Each reading of a topic brings
    five threads of a Kafka client.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, MAX_ARENAS)
