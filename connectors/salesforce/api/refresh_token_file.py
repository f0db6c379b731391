"""Keeps a refresh token that Salesforce rotated in a file, for the next login and the next start.

An app with refresh token rotation answers each login with a new token, and the old one is void. If
that is used again, Salesforce revokes the new one and all access tokens too [Help article
005316711], and a person has to log in again in the browser.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RefreshTokenFile:
    """The file of one login, which all processes with this login share."""

    path: Path

    @contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Whether no other process logs in with this login, for as long as the context lasts.

        Two logins at once would use one token twice.
        Raises OSError. The lock ends with the process at the latest.
        """
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600
        )
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def load(self, configured: str) -> str | None:
        """The newest token that descends from the `configured` one; None if there is none.

        A token that the operator configures anew makes the kept one obsolete. Blocks for the time
        of a small file. Raises OSError, and ValueError for a file that is not ours.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if not text.strip():
            return None
        match json.loads(text):
            case {"descends_from": str(ancestor), "refresh_token": str(token)} if token:
                return token if ancestor == _digest(configured) else None
        raise ValueError("the file holds no token of this program")

    def keep(self, configured: str, rotated: str) -> None:
        """Replaces the kept token at once, in a file that only its owner may read.

        Blocks until the disk has it. Raises OSError, and then the file is as it was.
        """
        body = {"descends_from": _digest(configured), "refresh_token": rotated}
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            with open(new, "x", encoding="utf-8", opener=_private) as file:
                json.dump(body, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
