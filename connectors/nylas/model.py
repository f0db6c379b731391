"""Parses notifications and JSON from Nylas, and tolerates slightly broken bodies."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeGuard

import orjson

from connectors.nylas.errors import UnreadableBody as UnreadableBody

MAX_DEPTH = 1000
"""Levels of nesting. A contact has four; orjson reads up to 1,024, and nothing else shall read more
than it. It writes only 254.
"""

LONGEST_ID = 2_000
"""Characters. Graph's IDs, the longest that Nylas passes on, have about 150."""

FAMILIES = ("contact", "grant")
"""Of the types that we read; a type of one is the family, a dot and more. What has no dot is
another type.
"""

LAST_ATTEMPT = 3
"""Of Nylas to deliver a notification, counted in its `webhook_delivery_attempt` (schema of the
envelope).
"""

LATEST_TIME = 2**33
"""Epoch seconds, in the year 2242. A time in milliseconds lies beyond: believed, it would make
every later event look stale.
"""


class Notification(NamedTuple):
    """An envelope as the published notification schemas describe it.

    Fields that the schemas do not require are optional here.

    `time` is when the event happened (epoch seconds), None where it is absent or no time. `id`
    stays the same over the attempts of one notification; where Nylas sent none it is derived from
    the body. `object` is the contact, grant or other subject. `family` is one of `FAMILIES`, whose
    IDs are then present and usable, or empty: a type that we do not read. After the `last_attempt`
    Nylas gives it up.
    """

    id: str
    type: str
    family: str
    time: int | None
    source: str
    application_id: str
    last_attempt: bool
    object: Mapping[str, Any]


IDENTITY_FIELDS = frozenset({"grant_id", "id", "object"})
"""Fields that identify a contact but carry no content."""


def parse_json(raw: bytes) -> Any:
    """JSON in UTF-8.

    A lone surrogate, which cannot be stored anywhere, becomes U+FFFD; NaN and Infinity are refused.

    Raises UnreadableBody, also for what is nested deeper than `MAX_DEPTH`.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_tolerantly(raw)


def parse_notification(raw: bytes) -> Notification:
    """The envelope in an inflated body.

    Unknown fields and types are no fault; the attempt, `time` and `id` may be missing.

    Raises UnreadableBody: also when a contact.* names no grant or contact, or a grant.* no grant,
    in a form that can be a Kafka key.
    """
    data = parse_json(raw)
    if not isinstance(data, dict):
        raise UnreadableBody("not_an_envelope")
    kind = data.get("type")
    inner = data.get("data")
    if not isinstance(kind, str) or not kind:
        raise UnreadableBody("not_an_envelope")
    subject = inner.get("object") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(subject, dict):
        raise UnreadableBody("no_object")
    family = family_of(kind)
    if family == "contact":
        grant = subject.get("grant_id")
        if not usable_id(grant):
            raise UnreadableBody("no_grant_id")
        # A grant ID is a UUID; with a slash in it two contacts could have one key.
        if "/" in grant:
            raise UnreadableBody("no_grant_id", "a slash")
        if not usable_id(subject.get("id")):
            raise UnreadableBody("no_contact_id")
    elif family == "grant" and not usable_id(subject.get("grant_id")):
        raise UnreadableBody("no_grant_id")
    identity = data.get("id")
    source = data.get("source")
    application = inner.get("application_id")
    attempt = data.get("webhook_delivery_attempt")
    return Notification(
        identity if isinstance(identity, str) and identity else _derived_id(data, raw),
        kind,
        family,
        parse_time(data.get("time")),
        source if isinstance(source, str) else "",
        application if isinstance(application, str) else "",
        isinstance(attempt, int) and attempt >= LAST_ATTEMPT,
        subject,
    )


def family_of(kind: str) -> str:
    """The one of `FAMILIES` that a type belongs to; empty for every other type."""
    family, dot, _ = kind.partition(".")
    return family if dot and family in FAMILIES else ""


def contact_key(grant_id: str, contact_id: str) -> str:
    """The key of a contact in every topic: `grant_id/contact_id`.

    A contact ID is unique only inside its grant. Keys are case-sensitive; the first slash
    separates.

    Case counts; the first slash separates.
    """
    return f"{grant_id}/{contact_id}"


def has_content(contact: Mapping[str, Any]) -> bool:
    """Whether a contact has more than the fields that identify it."""
    return not contact.keys() <= IDENTITY_FIELDS


def groups_of(contact: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The groups of a contact, each with an ID that is a text. Never raises on JSON."""
    groups = contact.get("groups")
    for group in groups if isinstance(groups, list) else ():
        if isinstance(group, dict) and isinstance(group.get("id"), str) and group["id"]:
            yield group


def usable_id(value: object) -> TypeGuard[str]:
    """Whether an ID can be part of a key that names exactly one contact.

    U+FFFD is refused: it stands for any lone surrogate.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_ID
        and "\x00" not in value
        and "\ufffd" not in value
    )


def parse_time(value: object) -> int | None:
    """The `time` of an envelope, epoch seconds; None for what is no time, or in milliseconds."""
    if type(value) is int and 0 < value < LATEST_TIME:  # nearly every one
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < LATEST_TIME or value != int(value):
        return None
    return int(value)


def _derived_id(data: dict[str, Any], raw: bytes) -> str:
    # Without the attempt, which is the one field that differs between the attempts of a
    # notification.
    same = {name: value for name, value in data.items() if name != "webhook_delivery_attempt"}
    try:
        content = orjson.dumps(same, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # nested deeper than orjson writes
        content = raw
    return "derived-" + hashlib.blake2b(content, digest_size=16).hexdigest()


def _deeper_than(data: Any, levels: int) -> bool:
    layer = [data]
    for _ in range(levels + 1):
        below: list[Any] = []
        for value in layer:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return False
        layer = below
    return any(isinstance(value, dict | list) for value in layer)


def _parse_tolerantly(raw: bytes) -> Any:
    """As orjson, but for lone surrogates (escaped or as bytes) and a byte order mark."""
    try:
        data = _without_surrogates(
            _DECODER.decode(raw.decode("utf-8", "surrogatepass").removeprefix("\ufeff"))
        )
    except (ValueError, RecursionError) as error:
        # The error's own text would quote the body.
        raise UnreadableBody("not_json", type(error).__name__) from None
    if _deeper_than(data, MAX_DEPTH):
        raise UnreadableBody("not_json", "nested too deeply")
    return data


def _without_surrogates(data: Any) -> Any:
    if isinstance(data, str):
        return _SURROGATE.sub("\ufffd", data)
    if isinstance(data, list):
        return [_without_surrogates(value) for value in data]
    if isinstance(data, dict):
        return {
            _SURROGATE.sub("\ufffd", name): _without_surrogates(value)
            for name, value in data.items()
        }
    return data


def _integer(digits: str) -> int | float:
    # As orjson: what does not fit 64 bits is a float, since orjson refuses to write it otherwise.
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else _finite(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("out of range")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_SURROGATE = re.compile("[\ud800-\udfff]")
_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant
)
