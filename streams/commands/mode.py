"""The command mode: shows in which mode the sink writes, and sets another one."""

import json
import time
from collections.abc import Callable
from difflib import get_close_matches
from textwrap import fill

import click
from confluent_kafka import KafkaException

from connectors.salesforce.write_mode import MEANING, WriteMode, improved_outcomes
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.offer_again import offer_again
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.topic_records import topic_log
from streams.control import RELEASE_OBEYED_SECONDS
from streams.control_mode import ModeChange, ModeInForce, mode_in_force, mode_record
from streams.selection import Selection
from streams.settings import KafkaSettings, SalesforceSettings
from streams.topics import topics

# Of a terminal that nobody made wider.
COLUMNS = 80

NOT_CHOSEN = (
    "nobody has chosen a mode, so that the sink does not start; look at first, without writing "
    "anything: contactstream mode set report-only --why TEXT"
)


def show(kafka: KafkaSettings, org: SalesforceSettings, *, as_json: bool) -> None:
    """Prints the mode in force, and what the others mean. Blocks. Raises click.ClickException."""
    found = current_mode(kafka, org)
    if as_json:
        click.echo(json.dumps(mode_entry(found), indent=2, ensure_ascii=False))
        return
    click.echo(fill(mode_line(found), COLUMNS, break_on_hyphens=False))
    click.echo("")
    for mode, meaning in MEANING.items():
        mark = "*" if found is not None and found.mode is mode else " "
        click.echo(f"{mark} {mode.value:<13}{meaning}")


def current_mode(kafka: KafkaSettings, org: SalesforceSettings) -> ModeInForce | None:
    """The mode in force; None while nobody has chosen one. Blocks. Raises click.ClickException."""
    outcomes = topic_log(kafka, topics(kafka).outcomes.name)
    written = any(log.end > 0 for log in outcomes.values())
    return mode_in_force(read_control(kafka).mode, org.mode, has_outcomes=written)


def mode_line(found: ModeInForce | None) -> str:
    """The mode and where it comes from, as a sentence."""
    return NOT_CHOSEN if found is None else f"{found.mode.value} ({found.origin})"


def mode_entry(found: ModeInForce | None) -> dict[str, str | None]:
    """The mode as JSON takes it."""
    if found is None:
        return {"mode": None, "origin": NOT_CHOSEN}
    return {"mode": found.mode.value, "origin": found.origin}


def set_mode(
    kafka: KafkaSettings,
    text: str,
    why: str,
    actor: str | None,
    *,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> None:
    """Sets the mode, and offers again whom the new one does more for. Blocks.

    With `dry_run` it only says what would be offered. Raises click.UsageError for a mode that does
    not exist, and click.ClickException.
    """
    mode = known_mode(text)
    if not why.strip():
        raise click.UsageError("--why is empty: whoever sees the mode has to know")
    before = read_control(kafka).mode
    was = f"; it was {before.mode.value}, set by {before.by}" if before is not None else ""
    offered = improved_outcomes(mode)
    click.echo(f"{mode.value}: {MEANING[mode]}{was}")
    if offered:
        click.echo(f"offered again: contacts whose last outcome is {', '.join(offered)}")
    if dry_run:
        click.echo("Nothing is changed; repeat it without --dry-run.", err=True)
        return
    now, by = clock(), actor_name(actor)
    _publish(kafka, ModeChange(mode, by, why.strip(), int(now * 1000)))
    click.echo(f"set; obeyed within {RELEASE_OBEYED_SECONDS} s")
    if not offered:
        return
    try:
        run_id = offer_again(kafka, Selection(outcomes=offered), by, now)
    except (click.ClickException, KafkaException, KeyboardInterrupt) as error:
        raise click.ClickException(
            "the mode is set, and nobody is offered again yet; repeat the command for that"
        ) from error
    click.echo(f"the offering is run {run_id}; see: contactstream runs follow {run_id}")


def known_mode(text: str) -> WriteMode:
    """The mode of this name. Raises click.UsageError, with the closest one or all of them."""
    words = [mode.value for mode in WriteMode]
    if text in words:
        return WriteMode(text)
    close = get_close_matches(text.lower().replace("_", "-"), words, 1)
    hint = f"did you mean {close[0]}?" if close else f"it may be {', '.join(words)}"
    raise click.UsageError(f"mode {text!r}: unknown; {hint}")


def _publish(kafka: KafkaSettings, change: ModeChange) -> None:
    noted = AuditEntry(
        f"{change.at_ms}-mode-set",
        AuditState.ENDED,
        change.at_ms,
        change.by,
        f"mode set {change.mode.value}",
        change.why,
        {},
        1,
    )
    names = topics(kafka)
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(names.audit.name, noted)])
            publisher.publish([mode_record(names, change)])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
