"""Errors of the Nylas connector: one small hierarchy under `NylasError`."""

from __future__ import annotations


class NylasError(Exception):
    """Base of everything that this package raises on purpose."""


class NotFound(NylasError):
    """Nylas answered 404 at `served_at` (its own clock, epoch seconds).

    `of_grant` tells that the grant itself is unknown, as far as the body says so.
    """

    def __init__(self, message: str, *, served_at: int = 0, of_grant: bool = False) -> None:
        super().__init__(message)
        self.served_at = served_at
        self.of_grant = of_grant


class Passing(NylasError):
    """A fault that time heals: 5xx, 408, a time-out, a cut connection, a body that is not JSON.

    `status` is None where no usable HTTP answer came at all.
    """

    def __init__(self, status: int | None, message: str = "") -> None:
        super().__init__(message or f"Nylas answered {status}")
        self.status = status


class RateLimited(Passing):
    """Nylas answered 429.

    `retry_after` is in seconds; None where the header is absent (only some providers send it).

    `retry_after` is in seconds, None where the header is absent (only some providers send it).
    """

    def __init__(self, retry_after: float | None, message: str = "") -> None:
        super().__init__(429, message or "Nylas answered 429")
        self.retry_after = retry_after


class Refused(NylasError):
    """A refusal that repeating cannot help: 400, 401, 403 and the other 4xx.

    The message names the remedy.

    The message names the remedy.

    `body` is the start of the answer, for the operator; Nylas' error bodies hold no contact data.
    """

    def __init__(self, status: int, body: str, remedy: str = "") -> None:
        super().__init__(f"Nylas answered {status}: {remedy or body}")
        self.status = status
        self.body = body


class UnreadableBody(NylasError):
    """A signed body that cannot be read as a notification.

    It cannot be inflated, is not JSON, or does not name its contact.

    `reason` is a snake_case word of a closed set, for metrics and dead letters: `UNREADABLE`, and
    what its user adds.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


UNREADABLE = (
    "bad_gzip",
    "inflates_too_large",
    "not_json",
    "not_an_envelope",
    "no_object",
    "no_grant_id",
    "no_contact_id",
)
"""Every reason for which this package raises UnreadableBody."""


class UnsupportedEncoding(NylasError):
    """A Content-Encoding other than gzip, the only one that Nylas sends."""
