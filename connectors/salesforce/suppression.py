"""The suppression list: people who asked to be erased, as salted hashes."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from connectors.salesforce.api.errors import SalesforceError

# between two checks of the file's status: one costs microseconds, but every contact needs it
FILE_CHECK_SECONDS = 1.0


class SuppressionError(SalesforceError):
    """The suppression list cannot be read; nothing may be written to Salesforce without it."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """Salted hashes of the addresses and contact keys of people who asked to be erased.

    The list itself does not reveal whom it names.
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
        """A list with these values as well; the first entry draws the salt."""
        salted = Suppression(self.salt or secrets.token_bytes(hashlib.sha256().digest_size))
        return Suppression(salted.salt, self.hashes | {salted.entry(value) for value in values})

    def dump(self) -> str:
        """The JSON that `load_suppression` reads."""
        return json.dumps({"salt": self.salt.hex(), "hashes": sorted(self.hashes)}, indent=0)


def load_suppression(path: Path) -> Suppression:
    """The list in a file that `dump` wrote. Raises SuppressionError, also if there is no file."""
    try:
        data = json.loads(path.read_text())
        return Suppression(bytes.fromhex(data["salt"]), frozenset(map(str, data["hashes"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SuppressionError:
    # without the error's text, which may quote the file
    return SuppressionError(
        f"{path}: the suppression list cannot be read ({type(error).__name__}), "
        "and nothing is written to Salesforce without it; restore the file"
    )


class SuppressionFile:
    """The list in a file that may grow while the process runs; used in place of a Suppression.

    It is read at the first use, and again when the file has changed. Every use may raise
    SuppressionError, because a list that cannot be read may name anybody.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked: float | None = None
        self._file_state: tuple[int, int, int] | None = None
        self._list = Suppression()

    @property
    def hashes(self) -> frozenset[str]:
        return self.current().hashes

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed."""
        return self.current().holds(values)

    def current(self) -> Suppression:
        """The list in the file as of the last check, which is at most FILE_CHECK_SECONDS old."""
        now = self._clock()
        if self._checked is None or now - self._checked >= FILE_CHECK_SECONDS:
            try:
                status = self._path.stat()
            except OSError as error:
                raise _unreadable(self._path, error) from error
            file_state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if file_state != self._file_state:
                self._list = load_suppression(self._path)
            # set last, so that a check that failed is repeated at the next use
            self._file_state, self._checked = file_state, now
        return self._list


class GrowingSuppression:
    """A list that grows while the process runs, beside one in a file; used as a Suppression is.

    One thread adds to it and takes off, and others may ask meanwhile.
    """

    def __init__(self, file: Suppression | SuppressionFile | None = None) -> None:
        self._file = file or Suppression()
        self._by_salt: dict[bytes, set[str]] = {}

    @property
    def file(self) -> Suppression | SuppressionFile:
        """The list in the file; an empty one if there is none."""
        return self._file

    @property
    def salts(self) -> Collection[bytes]:
        """The salts of what was added, the first one first."""
        return tuple(self._by_salt)

    def add(self, salt: bytes, hashed: str) -> None:
        """Adds a hash that was made with this salt."""
        self._by_salt.setdefault(salt, set()).add(hashed)

    def remove(self, salt: bytes, hashed: str) -> None:
        """Takes a hash off that was added with this salt, if it was."""
        self._by_salt.get(salt, set()).discard(hashed)

    def has(self, salt: bytes, hashed: str) -> bool:
        """Whether this very hash was added."""
        return hashed in self._by_salt.get(salt, ())

    @property
    def size(self) -> int:
        """How many hashes were added."""
        return sum(map(len, self._by_salt.values()))

    @property
    def hashes(self) -> Collection[str]:
        """All hashes; empty if nobody is listed."""
        if not self._by_salt:  # as in most deployments, and asked for each contact
            return self._file.hashes
        added = next((hashes for hashes in list(self._by_salt.values()) if hashes), None)
        return self._file.hashes if added is None else added

    def holds(self, values: Iterable[str]) -> bool:
        """Whether any of these addresses or keys is listed.

        Raises SuppressionError where the file cannot be read.
        """
        asked = list(values)
        if self._file.holds(asked):
            return True
        return any(
            Suppression(salt).entry(value) in hashes
            for salt, hashes in list(self._by_salt.items())
            for value in asked
        )


SuppressionList = Suppression | SuppressionFile | GrowingSuppression
