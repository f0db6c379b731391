"""An independent plain model of what has to come out: the design's rules, replayed over contacts.events one event at a time.

It shares no code with the stages, on purpose: it parses with the standard library, compares contents field by field, and keeps every
notification ID. It is slow and obvious.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The Nylas fields that the default mapping reads; a change of any other is no change.
MAPPED = ("emails", "given_name", "surname", "company_name", "job_title", "phone_numbers", "source")

DELETED: Mapping[str, Any] = {"deleted": True}


@dataclass(frozen=True)
class Event:
    """A record of contacts.events, as far as the rules need it."""

    key: str
    id: str
    time: int
    content: Mapping[str, Any]
    forced: bool
    """A replay or a redrive: may pass although it is older than the newest seen, if it is the one last forwarded."""


@dataclass
class Contact:
    """What is known of a contact after some of its events."""

    newest: int = -1
    ids: set[str] = field(default_factory=set)
    forwarded_version: int = -1
    forwarded: Mapping[str, Any] | None = None

    def take(self, event: Event) -> bool:
        """Whether the event is news."""
        if event.time < self.newest:
            if not (event.forced and event.time == self.forwarded_version):
                return False
        elif event.time == self.newest:
            if event.id in self.ids and not event.forced:
                return False
            self.ids.add(event.id)
        else:
            self.newest, self.ids = event.time, {event.id}
        if event.content == self.forwarded and not event.forced:
            return False
        self.forwarded, self.forwarded_version = event.content, event.time
        return True


class NotAnEvent(ValueError):
    """A record that no rule covers: poison, which belongs in the dead letters."""


def parse(value: bytes | None, origin: str) -> Event:
    """One record. Raises NotAnEvent."""
    try:
        envelope = json.loads(value or b"")
        subject = envelope["data"]["object"]
        key = f"{subject['grant_id']}/{subject['id']}"
        time, identity = envelope["time"], envelope["id"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotAnEvent(str(error)) from error
    if not isinstance(time, int) or not isinstance(identity, str):
        raise NotAnEvent("time or id")
    gone = envelope.get("type") == "contact.deleted"
    content = DELETED if gone else {name: subject[name] for name in MAPPED if subject.get(name)}
    return Event(key, identity, time, content, origin in ("replay", "redrive"))


def replay(events: Iterable[Event]) -> dict[str, Contact]:
    """Every contact after all events, which come in the order of their offsets within a partition."""
    contacts: dict[str, Contact] = {}
    for event in events:
        contacts.setdefault(event.key, Contact()).take(event)
    return contacts
