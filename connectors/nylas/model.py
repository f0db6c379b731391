"""A Nylas notification as plain data, read from bytes that nobody has vouched for beyond their signature."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from connectors.nylas.errors import NylasError


class UnreadableBody(NylasError):
    """Bytes that are no notification. `reason` is a word of a closed set, for the metric and the dead letter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


REASONS = ("not_json", "not_an_envelope", "no_object", "no_grant_id", "no_contact_id", "bad_id")


@dataclass(frozen=True, slots=True)
class Notification:
    """The envelope (CloudEvents-like; nylas-notification-envelope) and its object. Unknown fields are kept in the bytes only."""

    id: str
    type: str
    time: int | None
    """When the event happened, seconds since the epoch; None when the envelope does not say."""
    source: str
    application_id: str
    object: dict[str, Any]


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text. Raises UnreadableBody, also for JSON nested deeper than any contact.

    A lone surrogate is JSON that cannot become UTF-8: one in a note must not cost the contact, so it is read as U+FFFD.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        return _without_surrogates(json.loads(raw, parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        # the error's own text quotes the body
        raise UnreadableBody("not_json", type(error).__name__) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(one) for name, one in value.items()}
    return value


def parse_notification(raw: bytes) -> Notification:
    """The notification in a body. `webhook_delivery_attempt`, `time` and `id` may be missing; a missing ID is derived from the bytes,
    so that a redelivery gets the same one. Raises UnreadableBody.
    """
    envelope = parse_json(raw)
    if not isinstance(envelope, dict) or not isinstance(kind := envelope.get("type"), str):
        raise UnreadableBody("not_an_envelope")
    data = envelope.get("data")
    subject = data.get("object") if isinstance(data, dict) else None
    if not isinstance(subject, dict) or not isinstance(data, dict):
        raise UnreadableBody("no_object")
    if kind.startswith("contact."):
        _require_id(subject, "grant_id", "no_grant_id")
        _require_id(subject, "id", "no_contact_id")
    elif kind.startswith("grant."):
        _require_id(subject, "grant_id", "no_grant_id")
    identity, time = envelope.get("id"), envelope.get("time")
    return Notification(
        id=identity if isinstance(identity, str) and identity else hashlib.blake2b(raw, digest_size=16).hexdigest(),
        type=kind,
        time=time if isinstance(time, int) and not isinstance(time, bool) and 0 <= time < 2**40 else None,
        source=source if isinstance(source := envelope.get("source"), str) else "",
        application_id=application if isinstance(application := data.get("application_id"), str) else "",
        object=subject,
    )


def _require_id(subject: dict[str, Any], name: str, reason: str) -> None:
    value = subject.get(name)
    if not isinstance(value, str) or not value:
        raise UnreadableBody(reason)
    if "\0" in value or "\ufffd" in value:  # U+FFFD stands where a lone surrogate did: two contacts could meet in one key
        raise UnreadableBody("bad_id")


def contact_key(grant_id: str, contact_id: str) -> str:
    """The key of a contact everywhere: IDs are unique inside a grant only, case-sensitive, and may hold any character."""
    return f"{grant_id}/{contact_id}"
