"""Reads the changes that `contactstream plan` plans, from a file or from contacts.changes."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import KafkaException

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import contact_key, has_content, parse_json, parse_notification
from connectors.salesforce.outcome import ContactVersion
from streams.events import (
    CLOCK_DIFFERENCE_SECONDS,
    Kind,
    UnreadableRecord,
    parse_change,
    received_at,
)
from streams.kafka.records import header
from streams.kafka.snapshot import read_to_end
from streams.settings import KafkaSettings
from streams.topics import topics

# Some hundred thousand changes are read in a minute, and nobody reads a longer plan.
READ_SECONDS = 300.0

_DURATION = re.compile(r"(\d{1,9})\s*([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class PlanError(ValueError):
    """The plan that was asked for cannot be made; the text says why."""


@dataclass(slots=True)
class PlanInput:
    """The newest change of each contact, and the contacts that need no plan."""

    changes: dict[str, ContactVersion] = field(default_factory=dict)
    """By contact key."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Contact key and reason of what the sink would not get to see."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Contact key and reason of what the sink would dead-letter."""

    def add(self, change: ContactVersion) -> None:
        """Keeps the change with the highest version of a contact, the later of two equal ones."""
        known = self.changes.get(change.key)
        if known is None or change.version >= known.version:
            self.changes[change.key] = change


def parse_duration(text: str) -> int | None:
    """Seconds of a duration such as 90m, 36h or 7d; None if it is none."""
    found = _DURATION.fullmatch(text.strip().lower())
    return int(found[1]) * _UNIT_SECONDS[found[2]] if found else None


def parse_moment(text: str, now: float, option: str = "--since") -> float:
    """Epoch seconds of an ISO 8601 date and time, or of a time ago (90m, 36h, 7d).

    A date and time without a zone is in UTC. Raises PlanError, which names the option.
    """
    ago = parse_duration(text)
    if ago is not None:
        return now - ago
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise PlanError(
            f"{option} {text}: neither a date and time like 2026-01-31T12:00Z nor a time like 36h"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def read_lines(lines: Iterable[bytes], now: int) -> PlanInput:
    """Contacts and envelopes, one a line; a contact without an envelope gets the version `now`.

    Raises PlanError with the number of an unreadable line.
    """
    found = PlanInput()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _read_line(line, now, found)
        except UnreadableBody as error:
            raise PlanError(
                f"line {number} is neither a contact nor an envelope: {error}"
            ) from error
    return found


def _read_line(line: bytes, now: int, found: PlanInput) -> None:
    body = parse_json(line)
    without_envelope = isinstance(body, dict) and "data" not in body and "grant_id" in body
    event = parse_notification(_envelope(body, now) if without_envelope else line)
    if event.family != "contact":
        found.skipped.append((event.type, "not_a_contact"))
        return
    contact = body if without_envelope else event.object
    key = contact_key(event.object["grant_id"], event.object["id"])
    if event.time is None:
        found.skipped.append((key, "read_again_first"))
    elif event.type.startswith("contact.deleted"):
        found.add(ContactVersion(key, event.time, None))
    elif event.type.endswith(".truncated") or not has_content(contact):
        # the reader fetches the contact before the sink sees it
        found.skipped.append((key, "read_again_first"))
    else:
        found.add(ContactVersion(key, event.time, contact))


def _envelope(contact: dict[str, object], now: int) -> bytes:
    """A notification about the contact, with its identity only."""
    identity = {name: contact[name] for name in ("grant_id", "id") if name in contact}
    identity = {name: value for name, value in identity.items() if isinstance(value, str)}
    return json.dumps(
        {"type": "contact.updated", "time": now, "data": {"object": identity}}
    ).encode()


def read_since(kafka: KafkaSettings, since: float) -> PlanInput:
    """The newest change of each contact that was received since `since` (epoch seconds).

    Reads contacts.changes. Blocks for up to READ_SECONDS. Raises PlanError.
    """
    found = PlanInput()
    erased: dict[str, None] = {}  # in the order of the topic
    since_ms = int(since * 1000)
    try:
        for record in read_to_end(
            kafka,
            topics(kafka).changes.name,
            # A change is appended after its receipt, but the broker's clock may be behind.
            since=since - CLOCK_DIFFERENCE_SECONDS,
            within=READ_SECONDS,
        ):
            if received_at(header(record.headers, "received_ms"), record.timestamp_ms) < since_ms:
                continue
            name = (record.key or b"").decode(errors="replace")
            try:
                change = parse_change(record.key, record.value, record.headers)
            except UnreadableRecord as error:
                found.unreadable.append((name, error.reason))
                continue
            if change is None:
                found.changes.pop(name, None)
                erased[name] = None
                continue
            contact = None if change.kind is Kind.DELETED else change.contact
            found.add(ContactVersion(change.key, change.version, contact))
            erased.pop(name, None)
    except TimeoutError as error:
        raise PlanError(f"{error}: choose a later moment for --since, or plan a FILE") from error
    except KafkaException as error:
        raise PlanError(
            f"contacts.changes cannot be read at {kafka.bootstrap_servers}: {error.args[0].str()}\n"
            "see what contactstream doctor finds"
        ) from error
    found.skipped += [(name, "erased") for name in erased]
    return found
