"""The list of erased people, as salted hashes."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from connectors.salesforce.api.errors import SalesforceError


class SuppressionError(SalesforceError):
    """The list of erased people cannot be read; nothing may be written without it."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """People who asked to be erased, by salted hashes of their addresses and contact keys: the list
    itself names nobody.
    """

    salt: bytes = field(repr=False, default=b"")
    hashes: frozenset[str] = frozenset()

    def entry(self, value: str) -> str:
        """The hash under which an address (as `normalise` gives it) or a contact key is listed."""
        return hmac.digest(self.salt, value.encode(errors="surrogatepass"), "sha256").hex()

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed."""
        return bool(self.hashes) and any(self.entry(value) in self.hashes for value in values)

    def adding(self, values: Iterable[str]) -> "Suppression":
        """A list with these as well; a first entry draws the salt."""
        grown = Suppression(
            self.salt or secrets.token_bytes(hashlib.sha256().digest_size), self.hashes
        )
        return Suppression(grown.salt, grown.hashes | {grown.entry(value) for value in values})

    def dump(self) -> str:
        return json.dumps({"salt": self.salt.hex(), "hashes": sorted(self.hashes)}, indent=0)


def load_suppression(path: Path) -> Suppression:
    """The list as `dump` wrote it. Raises SuppressionError, also where the file is missing."""
    try:
        data = json.loads(path.read_text())
        return Suppression(bytes.fromhex(data["salt"]), frozenset(map(str, data["hashes"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SuppressionError(f"{path}: {type(error).__name__}") from error


LOOK_SECONDS = 1.0  # a look at the file's status costs microseconds, but every contact asks


class SuppressionFile:
    """The list in a file that may grow at any time; stands where a Suppression does. Read at first
    use, and when the file has changed.

    Every use may raise SuppressionError: what cannot be read now may name anybody.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked: float | None = None
        self._mark: tuple[int, int, int] | None = None
        self._list = Suppression()

    @property
    def hashes(self) -> frozenset[str]:
        return self.current().hashes

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed."""
        return self.current().holds(values)

    def current(self) -> Suppression:
        """The list as the file holds it now, or held it within LOOK_SECONDS."""
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_SECONDS:
            try:
                found = self._path.stat()
            except OSError as error:
                raise SuppressionError(f"{self._path}: {type(error).__name__}") from error
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._mark:
                self._list = load_suppression(self._path)
            self._mark, self._looked = (
                mark,
                now,
            )  # only now: what failed is tried again at the next use
        return self._list
