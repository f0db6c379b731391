"""A plain model of what has to come out: the design's rules over contacts.events, event by event.

It shares no code with the stages, on purpose: it parses with the standard library, compares
contents field by field, and keeps every notification ID. It is slow and obvious.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The Nylas fields that the default mapping reads. A change of another field is not forwarded.
MAPPED = ("emails", "given_name", "surname", "company_name", "job_title", "phone_numbers", "source")

DELETED: Mapping[str, Any] = {"deleted": True}

IDENTITY_FIELDS = {"grant_id", "id", "object"}
"""A contact that has only these fields says that it changed, but not how."""

MAX_AHEAD_SECONDS = 60
"""A time further ahead of the event's receipt counts as so far ahead."""

MAX_TIME = 2**33
"""Epoch seconds, in the year 2242. A later time is not valid; it may be in milliseconds."""


@dataclass(frozen=True)
class Event:
    """A record of contacts.events, as far as the rules need it."""

    key: str
    id: str
    time: int | None
    """None when it has no valid time."""
    content: Mapping[str, Any] | None
    """None when it does not say how the contact changed."""
    forced: bool
    """A replay or a redrive. It is forwarded although it is older than the newest seen, if it is
    the one forwarded last.
    """


@dataclass
class Contact:
    """The state of a contact after some of its events."""

    newest: int = -1
    """The newest version seen."""
    ids: set[str] = field(default_factory=set)
    """The IDs of the events of the newest version."""
    forwarded_version: int = -1
    forwarded: Mapping[str, Any] | None = None
    deletions: set[int] = field(default_factory=set)
    """The versions of all its deletions, forwarded or not."""
    refetch: Counter[str] = field(default_factory=Counter)
    """How often the contact had to be read again, by reason."""
    address: str = ""
    """The first address that it was forwarded with. Contacts with one address are one person."""

    def take(self, event: Event) -> bool:
        """Adds the next event; returns whether it is forwarded."""
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
    """The record is poison, which belongs in the dead letters."""


def parse(
    value: bytes | None, origin: str, key: str | None = None, received_ms: int | None = None
) -> Event:
    """The event in a record of contacts.events. Raises NotAnEvent.

    `key` is the record's key, where it is known, and `received_ms` what the bridge's clock said.
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
        _time(envelope.get("time"), received_ms),
        _content(kind, subject),
        origin in ("replay", "redrive"),
    )


def _time(time: object, received_ms: int | None) -> int | None:
    if isinstance(time, bool) or not isinstance(time, int | float):
        return None
    if not 0 < time < MAX_TIME or time != int(time):
        return None
    if received_ms is not None:
        time = min(time, received_ms // 1000 + MAX_AHEAD_SECONDS)
    return int(time)


def _content(kind: str, subject: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if kind.startswith("contact.deleted"):
        return DELETED
    if kind.endswith(".truncated") or subject.keys() <= IDENTITY_FIELDS:
        return None
    return {name: subject[name] for name in MAPPED if subject.get(name)}


def replay(events: Iterable[Event]) -> dict[str, Contact]:
    """Every contact after all events, which come by offset within a partition."""
    contacts: dict[str, Contact] = {}
    for event in events:
        contacts.setdefault(event.key, Contact()).take(event)
    return contacts
