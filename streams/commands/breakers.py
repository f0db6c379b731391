"""The command breakers: lists the failure breakers that are open, and releases one."""

import difflib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.plan_input import parse_duration
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.topic_records import BROKER_WAIT_SECONDS, topic_records
from streams.control import (
    RELEASE_OBEYED_SECONDS,
    ControlTable,
    FailureBreaker,
    Stops,
    breaker_record,
    open_breakers,
    released,
)
from streams.settings import KafkaSettings
from streams.topics import topics

# The topic holds one record for each reason of failures, and what compaction has not removed yet.
READ_SECONDS = 30.0

# Whoever accepts failures for longer means another limit.
MOST_ACCEPTED_DAYS = 30

# Of a contact's ID: enough to tell two contacts apart, and too little to look one up.
ID_CHARACTERS_SHOWN = 4

STOPS = {Stops.BULK: "bulk runs", Stops.ALL: "all writing to Salesforce"}


def list_breakers(
    kafka: KafkaSettings, *, as_json: bool, clock: Callable[[], float] = time.time
) -> None:
    """Prints the open breakers, and which failures are accepted. Raises click.ClickException."""
    table = read_control(kafka)
    now_ms = int(clock() * 1000)
    opened = open_breakers(table.breakers.values())
    accepted = [one for one in table.breakers.values() if one.accepts_bulk(now_ms)]
    if as_json:
        body = {
            "open": [_open_entry(one) for one in opened],
            "accepted": [_accepted_entry(one) for one in accepted],
        }
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    for one in opened:
        for line in open_lines(one):
            click.echo(line)
    for one in accepted:
        click.echo(
            f"{one.reason}: {one.released_by} released it at {_time(one.released_ms)}; bulk runs "
            f"may fail for it until {_time(one.accepted_until_ms)}"
        )
    if not opened:
        click.echo("no failure breaker is open")


def open_lines(breaker: FailureBreaker) -> list[str]:
    """What an open breaker stops, what it saw, and how it is released."""
    seen = breaker.seen
    if seen.in_a_row:
        what = f"{seen.outcomes} contacts failed in a row, {seen.failures} of them for this reason"
    else:
        of_bulk = " of bulk runs" if breaker.stops is Stops.BULK else ""
        what = f"{seen.failures} of the last {seen.outcomes} contacts{of_bulk} failed for it"
    return [
        f"{breaker.reason} stops {STOPS[breaker.stops]} since {_time(breaker.opened_ms)}",
        f"    {what}, from {_time(seen.first_ms)} to {_time(seen.last_ms)}",
        f"    one of them is {masked(seen.example)}",
        f"    {remedy(breaker.reason)}",
    ]


def remedy(reason: str) -> str:
    """How an operator lets go on what the breaker of a reason stops."""
    return (
        "correct the cause, which the dead letters of this reason name; then: "
        f"contactstream breakers release {reason}"
    )


def masked(contact_key: str) -> str:
    """A contact key with the grant, and only the first characters of the contact's ID."""
    grant, _, contact = contact_key.partition("/")
    return f"{grant}/{contact[:ID_CHARACTERS_SHOWN]}..."


def _open_entry(breaker: FailureBreaker) -> dict[str, Any]:
    seen = breaker.seen
    return {
        "reason": breaker.reason,
        "stops": breaker.stops.value,
        "since": _time(breaker.opened_ms),
        "failures": seen.failures,
        "outcomes": seen.outcomes,
        "in_a_row": seen.in_a_row,
        "first_failed": _time(seen.first_ms),
        "last_failed": _time(seen.last_ms),
        "example": masked(seen.example),
        "remedy": remedy(breaker.reason),
    }


def _accepted_entry(breaker: FailureBreaker) -> dict[str, Any]:
    return {
        "reason": breaker.reason,
        "released_by": breaker.released_by,
        "released": _time(breaker.released_ms),
        "until": _time(breaker.accepted_until_ms),
    }


def release(
    kafka: KafkaSettings,
    reason: str,
    accepted_for: str,
    why: str,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Releases the breaker of a reason, and says so. Blocks.

    Raises click.UsageError and click.ClickException, each with what to do instead.
    """
    let_go = carry_out_release(kafka, reason, accepted_for, why, actor_name(actor), clock())
    for line in released_lines(let_go):
        click.echo(line)


def released_lines(breaker: FailureBreaker) -> list[str]:
    """What a breaker that has just been released stopped, and what counts from now on."""
    return [
        f"released {breaker.reason}, which stopped {STOPS[breaker.stops]}; a running sink and "
        f"reader go on within {RELEASE_OBEYED_SECONDS} s",
        f"bulk runs may fail for it until {_time(breaker.accepted_until_ms)}",
    ]


def carry_out_release(
    kafka: KafkaSettings, reason: str, accepted_for: str, why: str, by: str, now: float
) -> FailureBreaker:
    """Writes the release of the breaker of a reason, with its audit; returns the breaker. Blocks.

    `accepted_for` is a duration such as 1h, `now` is in epoch seconds. Raises click.UsageError and
    click.ClickException as `release` does.
    """
    seconds = parse_duration(accepted_for)
    if seconds is None or seconds > MOST_ACCEPTED_DAYS * 86_400:
        raise click.UsageError(
            f"--for {accepted_for}: a time of up to {MOST_ACCEPTED_DAYS} days is expected, such as "
            "30m, 6h or 2d; set SINK_BREAKER_BULK_SHARE to accept more failures for good"
        )
    breaker = find_open(read_control(kafka).breakers, reason)
    now_ms, names = int(now * 1000), topics(kafka)
    let_go = released(breaker, by, now_ms, seconds)
    noted = AuditEntry(
        f"{breaker.opened_ms}-{reason}",
        AuditState.ENDED,
        now_ms,
        by,
        "breakers release",
        f"for {accepted_for}: {why.strip()}" if why.strip() else f"for {accepted_for}",
        {"reason": reason},
        1,
    )
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(names.audit.name, noted)])
            publisher.publish([breaker_record(names, let_go)])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    return let_go


def find_open(breakers: Mapping[str, FailureBreaker], reason: str) -> FailureBreaker:
    """The open breaker of a reason. Raises click.ClickException when none is open."""
    breaker = breakers.get(reason)
    if breaker is not None and breaker.is_open:
        return breaker
    opened = [one.reason for one in open_breakers(breakers.values())]
    if breaker is not None:
        text = (
            f"the breaker of {reason} is not open: {breaker.released_by} released it at "
            f"{_time(breaker.released_ms)}"
        )
    else:
        text = f"no failure breaker has the reason {reason!r}{_suggestion(reason, opened)}"
    listed = f"; open: {', '.join(opened)}" if opened else "; none is open"
    raise click.ClickException(f"{text}{listed}. See: contactstream breakers")


def _suggestion(reason: str, opened: Iterable[str]) -> str:
    close = difflib.get_close_matches(reason.lower(), list(opened), n=1)
    return f", did you mean {close[0]}?" if close else ""


def read_control(kafka: KafkaSettings, broker_seconds: float = BROKER_WAIT_SECONDS) -> ControlTable:
    """contactstream.control as it is now. Blocks; waits so long for the broker and the topic.

    Raises click.ClickException, with the remedy, when the broker or the topic is not there.
    """
    table = ControlTable()
    name = topics(kafka).control.name
    for record in topic_records(kafka, name, within=READ_SECONDS, broker_seconds=broker_seconds):
        table.apply(record)
    return table


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
