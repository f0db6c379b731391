"""`contactstream plan`: what the sink would do with some changes, field by field, without writing
anything.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException

from connectors.nylas.errors import UnreadableBody
from connectors.nylas.model import contact_key, parse_json, parse_notification
from connectors.salesforce.api.auth import Session
from connectors.salesforce.api.budget import Budget
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.org_fields import VERSION_FIELD
from connectors.salesforce.outcome import NAME_DIFFERS, ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.planner import PlannedOutcome, WritePlan
from connectors.salesforce.policy import Policy
from connectors.salesforce.sync import MAX_BATCH, Sync
from streams.events import Kind, UnreadableRecord, parse_change
from streams.kafka.snapshot import read_to_end
from streams.org import credentials
from streams.settings import KafkaSettings, SalesforceSettings
from streams.topics import topics

# to read the changes: some hundred thousand a minute, and more are no plan that anybody reads
READ_SECONDS = 300.0
IDENTITY = {"grant_id", "id", "object"}
"""What an updated contact says that says nothing: it is read again before the sink sees it."""
_AGO = re.compile(r"(\d{1,9})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class PlanError(ValueError):
    """What was asked for cannot be planned; the text says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field's value in Salesforce, and the one that it would get."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Entry:
    """What would become of one contact. `same_record_as` is the contact under which the common
    record's fields stand.
    """

    key: str
    outcome: str
    sobject: str | None = None
    record_id: str | None = None
    matched: str | None = None
    reason: str = ""
    ambiguous: bool = False
    same_record_as: str | None = None
    fields: dict[str, Field] = field(default_factory=dict)


@dataclass(slots=True)
class Input:
    """The newest change of each contact, and what becomes of those that no plan needs the org for."""

    changes: dict[str, ContactVersion] = field(default_factory=dict)
    decided: list[Entry] = field(default_factory=list)

    def add(self, change: ContactVersion) -> None:
        """Of a contact's changes the highest version counts, the later one where they are equal."""
        known = self.changes.get(change.key)
        if known is None or change.version >= known.version:
            self.changes[change.key] = change

    def leave_out(self, key: str, reason: str) -> None:
        """The sink does not get to see it."""
        self.decided.append(Entry(key, OutcomeStatus.SKIPPED.value, reason=reason))


def run(
    settings: SalesforceSettings,
    allowed: Policy,
    kafka: KafkaSettings,
    file: Path | None,
    since: str | None,
    *,
    as_json: bool,
) -> None:
    """Prints the plan. Raises PlanError, SettingsError, SalesforceError."""
    if (file is None) == (since is None):
        raise PlanError("give either a FILE or --since")
    now = time.time()
    if file is not None:
        given = read_lines(
            sys.stdin.buffer if str(file) == "-" else file.read_bytes().splitlines(), int(now)
        )
    else:
        given = read_since(kafka, moment(since or "", now))
    entries, notes = asyncio.run(planned(settings, allowed, list(given.changes.values())))
    entries += given.decided
    if as_json:
        print_json(entries, notes)
    else:
        print_text(entries, notes)


def moment(text: str, now: float) -> float:
    """Epoch seconds of an ISO 8601 date and time (UTC where it names no zone), or of so long ago
    (90m, 36h, 7d). Raises PlanError.
    """
    if ago := _AGO.fullmatch(text.strip().lower()):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise PlanError(
            f"--since {text}: neither a date and time like 2026-01-31T12:00Z nor a time like 36h"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def read_lines(lines: Iterable[bytes], now: int) -> Input:
    """Contacts and envelopes, one a line; a contact alone has the version `now`. Raises PlanError
    naming the line.
    """
    found = Input()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _read(line, now, found)
        except UnreadableBody as error:
            raise PlanError(
                f"line {number} is neither a contact nor an envelope: {error}"
            ) from error
    return found


def _read(line: bytes, now: int, found: Input) -> None:
    body = parse_json(line)
    bare = isinstance(body, dict) and "data" not in body and "grant_id" in body
    if bare:
        identity = {
            name: value for name in ("grant_id", "id") if isinstance(value := body.get(name), str)
        }
        line = json.dumps(
            {"type": "contact.updated", "time": now, "data": {"object": identity}}
        ).encode()
    event = parse_notification(line)
    if event.family != "contact":
        found.leave_out(event.type, "not_a_contact")
        return
    contact = body if bare else event.object
    key = contact_key(event.object["grant_id"], event.object["id"])
    if event.time is None:
        found.leave_out(key, "read_again_first")
    elif event.type.startswith("contact.deleted"):
        found.add(ContactVersion(key, event.time, None))
    elif event.type.endswith(".truncated") or contact.keys() <= IDENTITY:
        found.leave_out(key, "read_again_first")
    else:
        found.add(ContactVersion(key, event.time, contact))


def read_since(kafka: KafkaSettings, since: float) -> Input:
    """The newest change of each contact on contacts.changes from a moment (epoch seconds) to now.
    Raises PlanError.
    """
    found = Input()
    erased: dict[str, None] = {}
    try:
        for record in read_to_end(
            kafka, topics(kafka).changes.name, since=since, within=READ_SECONDS
        ):
            name = (record.key or b"").decode(errors="replace")
            try:
                change = parse_change(record.key, record.value, record.headers)
            except UnreadableRecord as error:  # the sink's dead letter
                found.decided.append(Entry(name, OutcomeStatus.FAILED.value, reason=error.reason))
                continue
            if change is None:
                found.changes.pop(name, None)
                erased[name] = None
                continue
            contact = None if change.kind is Kind.DELETED else change.contact
            found.add(ContactVersion(change.key, change.version, contact))
            erased.pop(name, None)
    except TimeoutError as error:
        raise PlanError(f"{error}: take a later moment") from error
    except KafkaException as error:
        raise PlanError(
            f"contacts.changes cannot be read at {kafka.bootstrap_servers}: {error.args[0].str()}\n"
            "see what contactstream doctor finds"
        ) from error
    for name in erased:
        found.leave_out(name, "erased")
    return found


async def planned(
    settings: SalesforceSettings, allowed: Policy, changes: Sequence[ContactVersion]
) -> tuple[list[Entry], Counter[str]]:
    """What would become of each change, and what the mapping cut, left out or lacks. Raises
    SettingsError, SalesforceError.
    """
    notes: Counter[str] = Counter()

    def count(what: str, where: str) -> None:
        notes[f"{what} {where}".strip()] += 1

    http = http_client()
    session = Session(credentials(settings), http)
    entries: list[Entry] = []
    async with SalesforceClient(
        session, http, settings.api_version, budget=Budget(settings.call_reserve)
    ) as client:
        sync = Sync(client, allowed, count)
        waiting = list(changes)
        while waiting:
            plan = await sync.resolve(waiting[:MAX_BATCH])
            entries += described(plan)
            if len(plan.leftovers) >= min(len(waiting), MAX_BATCH):
                raise PlanError("the addresses of one contact alone fill a query")
            waiting = [*plan.leftovers, *waiting[MAX_BATCH:]]
    order = {change.key: place for place, change in enumerate(changes)}
    return sorted(entries, key=lambda entry: order[entry.key]), notes


def described(plan: WritePlan) -> list[Entry]:
    """An entry for each decision of a plan. What changes in a common record stands under the one
    that changes most of it.
    """
    tellers: dict[int, PlannedOutcome] = {}
    for decision in sorted(plan.decisions, key=lambda one: _weight(one.outcome)):
        if decision.record is not None:
            tellers.setdefault(id(decision.record), decision)
    return [_entry(decision, tellers.get(id(decision.record))) for decision in plan.decisions]


def _weight(outcome: Outcome) -> int:
    """The lower, the more of its record's changes are its own."""
    if outcome.reason == NAME_DIFFERS:
        return 4
    if outcome.status is OutcomeStatus.FILLED:
        return 3 if outcome.reason else 1
    return {OutcomeStatus.CREATED: 0, OutcomeStatus.UPDATED: 0, OutcomeStatus.RELEASED: 2}.get(
        outcome.status, 3
    )


def _entry(decision: PlannedOutcome, teller: PlannedOutcome | None) -> Entry:
    outcome, record = decision.outcome, decision.record
    common = teller.change.key if teller is not None and teller is not decision else None
    changed = record.changes if record is not None and teller is decision else {}
    stored = record.stored if record is not None else {}
    return Entry(
        key=outcome.key,
        outcome=outcome.status.value,
        sobject=outcome.sobject,
        record_id=outcome.record_id,
        matched=outcome.matched,
        reason=outcome.reason,
        ambiguous=outcome.ambiguous,
        same_record_as=common,
        fields={name: Field(_whole(stored.get(name)), value) for name, value in changed.items()},
    )


def _whole(value: Any) -> Any:
    """Salesforce writes every number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def print_json(entries: Sequence[Entry], notes: Counter[str]) -> None:
    summary = Counter(entry.outcome for entry in entries)
    body = {"contacts": [asdict(entry) for entry in entries], "summary": summary, "notes": notes}
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def print_text(entries: Sequence[Entry], notes: Counter[str]) -> None:
    for entry in entries:
        click.echo(_line(entry))
        for name, values in entry.fields.items():
            if name != VERSION_FIELD or entry.outcome != OutcomeStatus.CREATED:
                before = (
                    "" if values.before is None else json.dumps(values.before, ensure_ascii=False)
                )
                after = (
                    "(cleared)"
                    if values.after is None
                    else json.dumps(values.after, ensure_ascii=False)
                )
                click.echo(f"    {name}: {before} -> {after}" if before else f"    {name}: {after}")
    counted = Counter(entry.outcome for entry in entries)
    click.echo(
        ", ".join(f"{number} {outcome}" for outcome, number in counted.most_common())
        or "no changes"
    )
    for note, number in sorted(notes.items()):
        click.echo(f"{note}: {number}")


def _line(entry: Entry) -> str:
    parts = [f"{entry.outcome:<10}{entry.key}"]
    if entry.sobject:
        parts.append(f"{entry.sobject} {entry.record_id or '(new)'}")
    if entry.matched:
        parts.append(f"found by {entry.matched}{', one of several' if entry.ambiguous else ''}")
    if entry.reason:
        parts.append(entry.reason)
    if entry.same_record_as:
        parts.append(f"same record as {entry.same_record_as}")
    return "  ".join(parts)
