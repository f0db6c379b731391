"""Remembers how many contacts the org, or a proxy before it, takes in one lookup."""

# A smaller lookup passed so often before a larger one is tried again: a larger one that is refused
# costs one call in fifty. Whoever raised the limit meanwhile waits for 50 batches at most.
FIRST_PATIENCE = 50
# After each refusal of a larger lookup the wait is doubled, up to this: one call in 800 is lost.
MAX_PATIENCE = 800


class LookupSize:
    """The largest lookup that is known to pass; without bound until one is refused.

    For all batches of one process. Only a size that passed after a refusal is remembered: a single
    contact that breaks every lookup that it is in teaches nothing about the others.
    """

    def __init__(self) -> None:
        self._largest: int | None = None
        self._patience = FIRST_PATIENCE
        self._passed = 0
        self._grown = False  # since the last refusal

    def most(self, wanted: int) -> int:
        """How many of `wanted` contacts to look up at once."""
        return wanted if self._largest is None else min(wanted, self._largest)

    def passed_after_refusal(self, size: int) -> None:
        """A lookup of `size` contacts passed after a larger one was refused."""
        if self._largest is None or self._grown:
            self._largest = size
        else:  # batches in flight together are refused together
            self._largest = min(self._largest, size)
        if self._grown:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
        self._passed, self._grown = 0, False

    def passed(self, size: int) -> None:
        """A lookup of `size` contacts passed at once; it counts if it was as large as it may be."""
        if self._largest is None or size < self._largest:
            return
        self._passed += 1
        if self._passed >= self._patience:
            self._largest *= 2
            self._passed, self._grown = 0, True
