"""Keeps the memory of a long-lived process flat, and Python's garbage collection short."""

import ctypes
import gc

# The option's number in glibc's malloc.h.
M_ARENA_MAX = -8

# Two are enough: the threads of a process of ours rarely allocate at the same time.
MAX_ARENAS = 2

# Allocations between two looks at the youngest objects: those of some thousand contacts. What is
# left in cycles until then is less than a batch.
GARBAGE_ALLOCATIONS = 100_000
# Looks at the younger objects for each at the older ones, as by default.
GARBAGE_ROUNDS = 10


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


def collect_garbage_rarely(allocations: int = GARBAGE_ALLOCATIONS) -> None:
    """For a process whose objects come and go by the thousand, nearly none of them in cycles.

    The youngest objects are looked through after so many allocations.

    Reference counts free those at once. The collector, which looks for cycles alone, would look
    through what is in use again and again: that was a sixth of the sink's processor time.
    """
    gc.set_threshold(allocations, GARBAGE_ROUNDS, GARBAGE_ROUNDS)
