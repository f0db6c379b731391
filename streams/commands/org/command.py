"""Shows the org that a deployment writes to, and adopts another one after a sandbox refresh.

An adoption asks the reader to offer every contact again, and then pins the new org. A sink that
knew the former org ends when it reads that. The next writer clears what is known of the former org
before it writes (`streams.sink.org_guard`).
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import click
from prometheus_client import CollectorRegistry

from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.policy import Policy
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.replay.command import Looked, ReplayOptions, look, start
from streams.commands.topic_records import topic_records
from streams.control_org import OrgPin, org_record
from streams.metrics import SinkMetrics
from streams.org import mapping, open_client
from streams.runs import ReplaySource
from streams.selection import Selection
from streams.settings import KafkaSettings, SalesforceSettings, SettingsError
from streams.sink.former_org import clearings
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an adoption would do."""

    former: str
    org_id: str
    clears: dict[str, int]
    """Records that the next writer clears, by topic."""
    contacts: int
    """Contacts that are offered to the new org."""
    calls: int
    """Salesforce calls that this takes at most."""


def show(kafka: KafkaSettings, org: SalesforceSettings, *, as_json: bool) -> int:
    """Prints the org that is pinned and the one that the login leads to; returns the exit code.

    It is 1 when they differ. Raises click.ClickException.
    """
    pin, here = read_control(kafka).org, logged_in_org(org)
    fits = pin is None or pin.org_id == here
    if as_json:
        body = {
            "pinned": pin and pin.org_id,
            "pinned_by": pin and pin.by,
            "pinned_at": pin and _time(pin.pinned_ms),
            "adopting": bool(pin and pin.adopting),
            "login": here,
            "ok": fits,
        }
        click.echo(json.dumps(body, indent=2))
        return 0 if fits else 1
    if pin is None:
        click.echo(f"no org is pinned; the first sink pins the one it logs in to, now {here}")
    else:
        click.echo(f"{pin_line(pin)}; the login leads to {here}")
    if not fits:
        click.echo("the sink does not work; see: contactstream org adopt --dry-run")
    return 0 if fits else 1


def pin_line(pin: OrgPin) -> str:
    """Which org is pinned, since when, and by whom."""
    line = f"org {pin.org_id} is pinned since {_time(pin.pinned_ms)}, by {pin.by}"
    if pin.adopting:
        line += f"; the next sink clears what is known of {pin.former}"
    return line


def adopt(
    kafka: KafkaSettings,
    org: SalesforceSettings,
    policy: Callable[[], Policy],
    *,
    why: str,
    actor: str | None,
    dry_run: bool,
    clock: Callable[[], float] = time.time,
) -> None:
    """Adopts the org that the login leads to. Blocks.

    Raises click.ClickException and click.UsageError, each with what to do instead.
    """
    by = actor_name(actor)
    if not dry_run and not why.strip():
        raise click.UsageError("--why is empty: say why this deployment writes to another org")
    pin, here = read_control(kafka).org, logged_in_org(org)
    if pin is None:
        raise click.UsageError(
            f"no org is pinned yet: the first sink pins the one that it logs in to, now {here}"
        )
    if pin.org_id == here:
        click.echo(f"org {here} is pinned already, so there is nothing to adopt")
        return
    looked = _contacts(kafka, org, policy)
    found = Adoption(
        pin.org_id, here, count_cleared(kafka), looked.found.contacts, looked.found.calls
    )
    for line in adoption_lines(found):
        click.echo(line)
    if dry_run:
        click.echo("Nothing is changed; repeat it without --dry-run.")
        return
    now_ms = int(clock() * 1000)
    try:
        _carry_out(kafka, found, looked, by, why.strip(), now_ms)
    except NotAcknowledged as error:
        raise click.ClickException(f"{error}; repeat: contactstream org adopt") from error
    click.echo(f"org {here} is adopted; start the sink, where nothing does it by itself")


def _carry_out(
    kafka: KafkaSettings, found: Adoption, looked: Looked, by: str, why: str, now_ms: int
) -> None:
    names = topics(kafka)
    orgs = {"former": found.former, "org": found.org_id}
    entry = AuditEntry(
        f"{now_ms}-org-adopt",
        AuditState.BEGUN,
        now_ms,
        by,
        "org adopt",
        why,
        orgs,
        found.contacts,
    )
    pin = OrgPin(found.org_id, by, now_ms, adopting=True, former=found.former)
    with CommandPublisher(kafka) as publisher:
        publisher.publish([audit_record(names.audit.name, entry)])
        options = ReplayOptions(ReplaySource.CHANGES, agreed=True, why=why)
        run_id = start(kafka, looked, options, by)
        # Last: whoever repeats an interrupted adoption has the contacts offered once more.
        publisher.publish([org_record(names, pin)])
        ended = replace(entry, state=AuditState.ENDED)
        publisher.publish([audit_record(names.audit.name, ended)])
    click.echo(f"every contact is offered again by {run_id}; see: contactstream runs")


def adoption_lines(found: Adoption) -> list[str]:
    """What an adoption does, for a person who has to agree."""
    cleared = [f"{count:,} records of {name}" for name, count in found.clears.items()]
    return [
        f"org {found.org_id} is adopted in place of {found.former}",
        f"cleared, because it is true of the former org only: {', '.join(cleared)}",
        f"{found.contacts:,} contacts are offered to the new org, in at most {found.calls:,} "
        "Salesforce calls",
        "dead letters, failure breakers and the audit stay",
    ]


def count_cleared(kafka: KafkaSettings) -> dict[str, int]:
    """How many records an adoption clears, by topic. Blocks. Raises click.ClickException."""
    return {
        name: sum(1 for _ in clear(topic_records(kafka, name)))
        for name, clear in clearings(topics(kafka)).items()
    }


def logged_in_org(settings: SalesforceSettings) -> str:
    """The ID of the org that the settings log in to. Blocks for a login.

    Raises click.ClickException.
    """
    try:
        found = asyncio.run(_log_in(settings))
    except (SettingsError, SalesforceError) as error:
        raise click.ClickException(f"{error}\nSee: contactstream doctor") from error
    if found is None:
        raise click.ClickException(
            "the answer to the login does not name the org; check SALESFORCE_LOGIN_URL"
        )
    return found


async def _log_in(settings: SalesforceSettings) -> str | None:
    async with open_client(settings, SinkMetrics(CollectorRegistry())) as client:
        return await client.org_id()


def _contacts(
    kafka: KafkaSettings, org: SalesforceSettings, policy: Callable[[], Policy]
) -> Looked:
    options = ReplayOptions(ReplaySource.CHANGES, agreed=True)
    return look(kafka, org, mapping(org), policy, Selection(), options)


def _time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
