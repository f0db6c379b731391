"""An independent plain model of what has to come out: the design's rules, replayed over
contacts.events one event at a time.

It shares no code with the stages, on purpose: it parses with the standard library, compares
contents field by field, and keeps every notification ID. It is slow and obvious.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The Nylas fields that the default mapping reads; a change of any other is no change.
MAPPED = ("emails", "given_name", "surname", "company_name", "job_title", "phone_numbers", "source")

DELETED: Mapping[str, Any] = {"deleted": True}

SAYS_NOTHING = {"grant_id", "id", "object"}
"""A contact that holds no more than this tells that it changed, and not how."""

DAY = 86_400
"""Seconds. A time that lies further ahead of the event's arrival is no time."""

LATEST = 2**33
"""Epoch seconds, in the year 2242: what lies beyond is no time either (milliseconds)."""


@dataclass(frozen=True)
class Event:
    """A record of contacts.events, as far as the rules need it."""

    key: str
    id: str
    time: int | None
    """None: it has no time that can be one."""
    content: Mapping[str, Any] | None
    """None: it does not say how the contact changed."""
    forced: bool
    """A replay or a redrive: may pass although it is older than the newest seen, if it is the one
    last forwarded.
    """


@dataclass
class Contact:
    """What is known of a contact after some of its events."""

    newest: int = -1
    ids: set[str] = field(default_factory=set)
    forwarded_version: int = -1
    forwarded: Mapping[str, Any] | None = None
    deletions: set[int] = field(default_factory=set)
    """The versions of every deletion that was told of it, whether or not it was news."""
    refetch: Counter[str] = field(default_factory=Counter)
    """How often the contact had to be read again, by reason."""
    address: str = ""
    """The first address that it was ever told with: by it a person of two grants is one."""

    def take(self, event: Event) -> bool:
        """Whether the event is news."""
        if event.time is None:
            self.refetch["no_time"] += 1
            return False
        if event.content == DELETED:
            self.deletions.add(event.time)
        same = self.forwarded is not None and event.content == self.forwarded
        rival = False
        if event.time < self.newest:
            if not (event.forced and event.time == self.forwarded_version and same):
                return False
        elif event.time == self.newest:
            if event.id in self.ids and not event.forced:
                return False
            self.ids.add(event.id)
            rival = not same
        else:
            self.newest, self.ids = event.time, {event.id}
        if event.content is None:
            self.refetch["bodyless"] += 1
            return False
        if same and not event.forced:
            return False
        if rival:
            self.refetch["same_second"] += 1
        self.forwarded, self.forwarded_version = event.content, event.time
        emails = event.content.get("emails")
        if emails and not self.address:
            self.address = emails[0]["email"].lower()
        return True


class NotAnEvent(ValueError):
    """A record that no rule covers: poison, which belongs in the dead letters."""


def parse(
    value: bytes | None, origin: str, key: str | None = None, arrived_ms: int | None = None
) -> Event:
    """One record of contacts.events, under `key` where that is known; `arrived_ms` is the record's
    own time. Raises NotAnEvent.
    """
    try:
        envelope = json.loads(value or b"")
        kind, subject = envelope["type"], envelope["data"]["object"]
        grant, contact = subject["grant_id"], subject["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotAnEvent(str(error)) from error
    if not isinstance(kind, str) or not kind.startswith("contact."):
        raise NotAnEvent("type")
    if (
        not isinstance(grant, str)
        or not isinstance(contact, str)
        or not grant
        or not contact
        or "/" in grant
    ):
        raise NotAnEvent("grant or contact")
    if key is not None and key != f"{grant}/{contact}":
        raise NotAnEvent("another contact's key")
    identity = envelope.get("id") or hashlib.sha256(value or b"").hexdigest()
    return Event(
        f"{grant}/{contact}",
        str(identity),
        _time(envelope.get("time"), arrived_ms),
        _content(kind, subject),
        origin in ("replay", "redrive"),
    )


def _time(told: object, arrived_ms: int | None) -> int | None:
    if (
        isinstance(told, bool)
        or not isinstance(told, int | float)
        or not 0 < told < LATEST
        or told != int(told)
    ):
        return None
    if arrived_ms is not None and told > arrived_ms / 1000 + DAY:
        return None
    return int(told)


def _content(kind: str, subject: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if kind.startswith("contact.deleted"):
        return DELETED
    if kind.endswith(".truncated") or subject.keys() <= SAYS_NOTHING:
        return None
    return {name: subject[name] for name in MAPPED if subject.get(name)}


def replay(events: Iterable[Event]) -> dict[str, Contact]:
    """Every contact after all events, which come in the order of their offsets within a partition."""
    contacts: dict[str, Contact] = {}
    for event in events:
        contacts.setdefault(event.key, Contact()).take(event)
    return contacts
