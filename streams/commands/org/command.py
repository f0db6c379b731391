"""Shows the org that a deployment writes to, and adopts another one after a sandbox refresh.

The order of an adoption, each step acknowledged before the next one:

1. The record `org` says that the org is being adopted. Every sink ends, and none starts.
2. The group of the sinks has no members left.
3. What is known of the former org is cleared.
4. The reader is asked to offer every contact again.
5. The record `org` says that the org is adopted. Sinks start.

An adoption that was interrupted is repeated; until then no sink works.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import click
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from connectors.salesforce.api.errors import SalesforceError
from connectors.salesforce.policy import Policy
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.org.former_state import clearings
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.replay.command import Looked, ReplayOptions, look, start
from streams.commands.topic_records import topic_records
from streams.control_org import OrgPin, org_record
from streams.kafka.clients import client_config
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.org import mapping, open_client
from streams.runs import ReplaySource
from streams.selection import Selection
from streams.settings import KafkaSettings, SalesforceSettings, SettingsError
from streams.topics import group, topics

# A sink ends within 28 s (OVERDUE_SECONDS of streams/sink/process.py), and hears of it in 5 s.
SINK_GONE_SECONDS = 45.0
# Between two looks at the group, which a sink that starts and ends at once leaves for seconds.
LOOK_SECONDS = 0.5
ADMIN_SECONDS = 10.0
# Of one acknowledgement: far below what librdkafka's queue holds.
RECORDS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an adoption would do."""

    former: str
    org_id: str
    clears: dict[str, int]
    """Records that are cleared, by topic."""
    contacts: int
    """Contacts that are offered to the new org."""
    calls: int
    """Salesforce calls that this takes at most."""


def show(kafka: KafkaSettings, org: SalesforceSettings, *, as_json: bool) -> int:
    """Prints the org that is pinned and the one that the login leads to; returns the exit code.

    It is 1 when they differ, or an adoption was begun. Raises click.ClickException.
    """
    pin, here = read_control(kafka).org, logged_in_org(org)
    fits = pin is None or (pin.org_id == here and not pin.adopting)
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
    how = "is being adopted" if pin.adopting else "is pinned"
    return f"org {pin.org_id} {how} since {_time(pin.pinned_ms)}, by {pin.by}"


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
    pin, here = read_control(kafka).org, logged_in_org(org)
    if pin is None:
        raise click.UsageError(
            f"no org is pinned yet: the first sink pins the one that it logs in to, now {here}"
        )
    if pin.org_id == here and not pin.adopting:
        click.echo(f"org {here} is pinned already, so there is nothing to adopt")
        return
    former = pin.former if pin.adopting else pin.org_id
    looked = _contacts(kafka, org, policy)
    found = Adoption(former, here, count_cleared(kafka), looked.found.contacts, looked.found.calls)
    for line in adoption_lines(found):
        click.echo(line)
    if dry_run:
        click.echo("Nothing is changed; repeat it without --dry-run.")
        return
    if not why.strip():
        raise click.UsageError("--why is empty: say why this deployment writes to another org")
    now_ms = int(clock() * 1000)
    try:
        _carry_out(kafka, found, looked, by, why.strip(), now_ms)
    except NotAcknowledged as error:
        raise click.ClickException(f"{error}; repeat: contactstream org adopt") from error
    click.echo(f"org {here} is adopted; start the sink, if nothing does it by itself")


def _carry_out(
    kafka: KafkaSettings, found: Adoption, looked: Looked, by: str, why: str, now_ms: int
) -> None:
    names = topics(kafka)
    action_id = f"{now_ms}-org-adopt"

    def noted(state: AuditState, count: int) -> KafkaRecord:
        orgs = {"former": found.former, "org": found.org_id}
        entry = AuditEntry(action_id, state, now_ms, by, "org adopt", why, orgs, count)
        return audit_record(names.audit.name, entry)

    pin = OrgPin(found.org_id, by, now_ms, adopting=True, former=found.former)
    with CommandPublisher(kafka) as publisher:
        publisher.publish([noted(AuditState.BEGUN, looked.found.contacts)])
        publisher.publish([org_record(names, pin)])
        click.echo("waiting for the sinks to end ...")
        wait_until_no_sink(kafka)
        for name, cleared in cleared_records(kafka):
            count = 0
            while part := list(islice(cleared, RECORDS_AT_ONCE)):
                publisher.publish(part)
                count += len(part)
            click.echo(f"{name}: {count:,} records cleared")
        options = ReplayOptions(ReplaySource.CHANGES, agreed=True, why=why)
        run_id = start(kafka, looked, options, by)
        click.echo(f"every contact is offered again by {run_id}; see: contactstream runs {run_id}")
        adopted = OrgPin(found.org_id, by, now_ms, former=found.former)
        publisher.publish([org_record(names, adopted)])
        publisher.publish([noted(AuditState.ENDED, looked.found.contacts)])


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
    return {name: sum(1 for _ in cleared) for name, cleared in cleared_records(kafka)}


def cleared_records(kafka: KafkaSettings) -> Iterator[tuple[str, Iterator[KafkaRecord]]]:
    """By topic, the records that clear what is known of the former org."""
    for name, clear in clearings(topics(kafka)).items():
        yield name, clear(topic_records(kafka, name))


def wait_until_no_sink(
    kafka: KafkaSettings,
    within: float = SINK_GONE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once no sink is a member of its group. Blocks. Raises click.ClickException."""
    name = group(kafka, "sink")
    ends = time.monotonic() + within
    while members := _members(kafka, name):
        if time.monotonic() >= ends:
            raise click.ClickException(
                f"{members} sinks are still in the group {name}: stop them, then repeat: "
                "contactstream org adopt"
            )
        sleep(LOOK_SECONDS)


def _members(kafka: KafkaSettings, name: str) -> int:
    admin = AdminClient(client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None})
    try:
        answers = admin.describe_consumer_groups([name], request_timeout=ADMIN_SECONDS)
        return len(answers[name].result().members)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise click.ClickException(
            f"the group {name} cannot be examined: {error.args[0].str()}"
        ) from error


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
