"""The commands pause and resume: a part of the flow stops on purpose until a given time."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.outcome import OutcomeStatus
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.offer_again import offer_again
from streams.commands.plan_input import parse_duration
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.control import (
    RELEASE_OBEYED_SECONDS,
    Pause,
    PausedPart,
    pause_record,
    resume_record,
)
from streams.held import HeldReason
from streams.kafka.admin import topic_setting
from streams.kafka.clients import client_config
from streams.kafka.records import KafkaRecord
from streams.kafka.topic_policy import RETENTION
from streams.selection import Selection
from streams.settings import KafkaSettings
from streams.topics import topics

# What waited during a pause has to be worked off before it expires.
CATCH_UP_SECONDS = 12 * 3600

RESUME = {
    PausedPart.WRITES: "contactstream resume writes",
    PausedPart.CREATIONS: "contactstream resume creations",
    PausedPart.READING: "contactstream resume reading",
}

HELD_BY_PAUSE = Selection(
    outcomes=(f"{OutcomeStatus.HELD.value}:{HeldReason.CREATIONS_PAUSED.value}",)
)

WHAT_STOPS = {
    PausedPart.WRITES: "nothing is written to Salesforce",
    PausedPart.CREATIONS: "who is missing in Salesforce is held, and existing records are updated",
    PausedPart.READING: "Nylas is asked for nothing, and webhooks are received on",
}


def list_pauses(
    kafka: KafkaSettings, *, as_json: bool, clock: Callable[[], float] = time.time
) -> None:
    """Prints the pauses that last now. Blocks. Raises click.ClickException."""
    found = read_control(kafka).pauses_now(int(clock() * 1000))
    if as_json:
        click.echo(json.dumps([pause_entry(one) for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        click.echo(f"{pause_line(one)}; to end it: {RESUME[one.part]}")
    if not found:
        click.echo("nothing is paused")


def pause_line(pause: Pause) -> str:
    """What is paused, who asked for it and why, and how long it lasts."""
    return (
        f"{pause.part.value}: paused by {pause.by} at {_time(pause.begun_ms)} until "
        f"{_time(pause.until_ms)}, {pause.why}"
    )


def pause_entry(pause: Pause) -> dict[str, str]:
    """A pause as JSON takes it."""
    return {
        "part": pause.part.value,
        "by": pause.by,
        "why": pause.why,
        "begun": _time(pause.begun_ms),
        "until": _time(pause.until_ms),
    }


def pause(
    kafka: KafkaSettings,
    part: PausedPart,
    until: str,
    why: str,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Pauses a part of the flow; a pause that lasts already gets the new end. Blocks.

    `until` is a date and time, or a duration from now such as 2h. Raises click.UsageError and
    click.ClickException, each with what to do instead.
    """
    asked, known = begin_pause(kafka, part, until, why, actor_name(actor), clock())
    if known is not None:
        click.echo(f"it was paused by {known.by} until {_time(known.until_ms)}")
    click.echo(f"{begun(asked)}; obeyed within {RELEASE_OBEYED_SECONDS} s")
    click.echo(f"to end it sooner: {RESUME[part]}")
    if part is PausedPart.CREATIONS:
        click.echo("that offers the held people again; after the end of the pause, do so with:")
        click.echo("contactstream held release --limit creations_paused --why TEXT")


def begun(pause: Pause) -> str:
    """What has just been paused, and until when."""
    return f"paused {pause.part.value} until {_time(pause.until_ms)}: {WHAT_STOPS[pause.part]}"


def begin_pause(
    kafka: KafkaSettings, part: PausedPart, until: str, why: str, by: str, now: float
) -> tuple[Pause, Pause | None]:
    """Writes a pause and its audit; returns it, and the one that it replaced. Blocks.

    `now` is in epoch seconds. Raises click.UsageError and click.ClickException as `pause` does.
    """
    if not why.strip():
        raise click.UsageError("--why is empty: whoever finds it paused has to know")
    now_ms = int(now * 1000)
    ends = parse_end(until, now)
    known = read_control(kafka).pause_of(part, now_ms)
    longest = longest_pause(kafka, part)
    if longest is not None and ends - now > longest:
        raise click.UsageError(
            f"--until {until}: a pause of {part.value} may last until "
            f"{_time(int((now + longest) * 1000))} at most, because of "
            f"{' of '.join(_bound(kafka, part))}; raise that first, or pause again later"
        )
    asked = Pause(part, by, why.strip(), now_ms, int(ends * 1000))
    _publish(kafka, pause_record(topics(kafka), asked), "pause", asked, now_ms)
    return asked, known


def resume(
    kafka: KafkaSettings,
    part: PausedPart,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Ends a pause. Blocks. Raises click.ClickException, also where nothing is paused."""
    known = end_pause(kafka, part, actor_name(actor), clock())
    click.echo(
        f"resumed {part.value}, which {known.by} had paused; it goes on within "
        f"{RELEASE_OBEYED_SECONDS} s"
    )


def end_pause(kafka: KafkaSettings, part: PausedPart, by: str, now: float) -> Pause:
    """Ends a pause and writes the audit; returns the pause. Blocks.

    Whom a pause of creations holds is offered to the sink again. `now` is in epoch seconds. Raises
    click.ClickException, also where nothing is paused.
    """
    now_ms = int(now * 1000)
    known = read_control(kafka).pause_of(part, now_ms)
    if known is None:
        raise click.ClickException(f"{part.value} is not paused. See: contactstream pause")
    ended = Pause(part, by, known.why, known.begun_ms, now_ms)
    _publish(kafka, resume_record(topics(kafka), part), "resume", ended, now_ms)
    if part is PausedPart.CREATIONS:
        offer_again(kafka, HELD_BY_PAUSE, by, now)
    return known


def parse_end(text: str, now: float) -> float:
    """Epoch seconds of an ISO 8601 date and time, or of a duration from now such as 90m or 2d.

    A date and time without a zone is in UTC. Raises click.UsageError, also for a time that is over.
    """
    seconds = parse_duration(text)
    if seconds is not None:
        ends = now + seconds
    else:
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError:
            raise click.UsageError(
                f"--until {text}: neither a date and time like 2026-01-31T12:00Z nor a duration "
                "like 2h"
            ) from None
        ends = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if ends <= now:
        raise click.UsageError(f"--until {text} is over; it is {_time(int(now * 1000))} now")
    return ends


def longest_pause(kafka: KafkaSettings, part: PausedPart) -> float | None:
    """Seconds that a pause may last, so that nothing which waits meanwhile expires.

    Writes: the sink tells an older change that follows a newer one by the versions of both, which
    compaction may remove from contacts.changes later. Reading: contacts.refetch deletes by age.
    None where there is no bound, as for creations, which wait in no topic: they have an outcome.
    Blocks. Raises click.ClickException.
    """
    if part is PausedPart.CREATIONS:
        return None
    setting, topic = _bound(kafka, part)
    admin = AdminClient(client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None})
    try:
        kept_ms = int(topic_setting(admin, topic, setting))
    except KafkaException as error:
        raise click.ClickException(f"{topic} cannot be examined: {error.args[0].str()}") from error
    return None if kept_ms < 0 else max(0.0, kept_ms / 1000 - CATCH_UP_SECONDS)


def _bound(kafka: KafkaSettings, part: PausedPart) -> tuple[str, str]:
    """The setting, and the topic that has it."""
    names = topics(kafka)
    if part is PausedPart.WRITES:
        return "min.compaction.lag.ms", names.changes.name
    return RETENTION, names.refetch.name


def _publish(
    kafka: KafkaSettings, record: KafkaRecord, action: str, asked: Pause, now_ms: int
) -> None:
    part = asked.part.value
    noted = AuditEntry(
        f"{now_ms}-{action}-{part}",
        AuditState.ENDED,
        now_ms,
        asked.by,
        f"{action} {part}",
        asked.why,
        {"until": _time(asked.until_ms)},
        1,
    )
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(topics(kafka).audit.name, noted)])
            publisher.publish([record])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
