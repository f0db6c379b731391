"""The command grants: which address books are connected, and which need a new sign-in."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import click

from connectors.nylas.grants import Grant, unreadable
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.contact_groups import groups_read
from streams.commands.dead_letters.report import moment
from streams.commands.mailboxes import KnownGrants
from streams.commands.nylas_application import (
    administration,
    call,
    missing_for_links,
    sign_in_links,
)
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.tables import print_csv, print_json_rows, print_table
from streams.commands.topic_records import topic_records
from streams.control_grants import confirmed_record
from streams.control_selection import SelectionRecords
from streams.kafka.records import KafkaRecord
from streams.mailboxes import MailboxRule
from streams.reader.grant_events import GrantTable, parse_grant_event
from streams.settings import KafkaSettings, NylasSettings
from streams.topics import topics

COLUMNS = ("grant", "provider", "status", "left_out", "mailbox", "groups", "address")
EXPIRED_COLUMNS = ("grant", "address", "provider", "expired_since", "sign_in_link")


class Format(Enum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ExpiredGrant:
    """A grant whose owner has to sign in again."""

    grant: str
    address: str
    provider: str
    since: int
    """When it expired, in epoch seconds; 0 if no event of grants.events says it."""
    link: str
    """Where the owner signs in; empty while a setting for it is missing."""


def list_grants(
    nylas: NylasSettings, kafka: KafkaSettings, setting: MailboxRule, form: Format
) -> None:
    """Prints every grant, why its contacts cannot be read, and whether its mailbox is selected.

    Where contact groups are selected, it has those of the mailbox that an entry names.

    Without a broker the setting of this process decides what is selected, and a permission set
    selects nothing; a line on standard error says so. Blocks. Raises click.ClickException.
    """
    selection = _selection(kafka)
    rows = []
    for grant in call(administration(nylas).grants):
        choice = selection.choose(grant.email, setting)
        rows.append(
            (
                grant.id,
                grant.provider,
                "valid" if grant.valid else "expired",
                unreadable(grant) or ("" if choice.selected else "not_selected"),
                str(choice),
                groups_read(selection, grant.id, grant.provider),
                grant.email,
            )
        )
    _print(COLUMNS, rows, form)


def list_expired(nylas: NylasSettings, kafka: KafkaSettings, form: Format) -> None:
    """Prints the grants whose owners have to sign in again, each with the link for it.

    Without a broker it is not known since when; a line on standard error says so. Blocks. Raises
    click.ClickException.
    """
    found = [grant for grant in call(administration(nylas).grants) if is_expired(grant)]
    since = _since(kafka) if found else {}
    if found and (missing := missing_for_links(nylas)):
        click.echo(f"sign_in_link is empty: set {' and '.join(missing)}", err=True)
    rows = [
        (
            each.grant,
            each.address,
            each.provider,
            moment(each.since * 1000) if each.since else "",
            each.link,
        )
        for each in expired_grants(found, since, sign_in_links(nylas))
    ]
    _print(EXPIRED_COLUMNS, rows, form)


def confirm_deletions(
    kafka: KafkaSettings,
    why: str,
    actor: str | None,
    *,
    dry_run: bool,
    clock: Callable[[], float] = time.time,
) -> None:
    """Lets the contacts of deleted grants go that wait for a person, and writes the audit. Blocks.

    Raises click.UsageError where none waits or nobody says why, and click.ClickException.
    """
    held = read_control(kafka).grant_deletions.held
    if not held:
        raise click.UsageError("no deleted grant waits for a confirmation")
    if not dry_run and not why.strip():
        raise click.UsageError("--why is missing: whoever reads the audit has to know")
    names = topics(kafka)
    known = KnownGrants.of(topic_records(kafka, names.grants.name))
    until = max(known.table.since.get(grant, 0) for grant in held)
    for grant in sorted(held):
        deleted_at = moment(known.table.since.get(grant, 0) * 1000)
        click.echo(f"{grant} {known.addresses.address(grant) or '-'} deleted {deleted_at}")
    if dry_run:
        click.echo(f"the contacts of {len(held)} deleted grants would be published as deleted")
        return
    at_ms = int(clock() * 1000)
    noted = AuditEntry(
        f"{at_ms}-grants-confirm",
        AuditState.ENDED,
        at_ms,
        actor_name(actor),
        "grants confirm",
        why.strip(),
        {"grants": sorted(held)},
        len(held),
    )
    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([audit_record(names.audit.name, noted)])
            publisher.publish([confirmed_record(names, until)])
    except NotAcknowledged as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"the contacts of {len(held)} deleted grants are published as deleted")


def is_expired(grant: Grant) -> bool:
    """Whether a new sign-in of its owner would make its contacts readable."""
    return unreadable(grant) == "expired"


def expired_grants(
    grants: Iterable[Grant], since: Mapping[str, int], link: Callable[[str, str], str]
) -> list[ExpiredGrant]:
    """Those that have expired. `link` is given provider and address."""
    return [
        ExpiredGrant(
            grant.id,
            grant.email,
            grant.provider,
            since.get(grant.id, 0),
            link(grant.provider, grant.email),
        )
        for grant in grants
        if is_expired(grant)
    ]


def expired_since(records: Iterable[KafkaRecord]) -> dict[str, int]:
    """When each expired grant expired, in epoch seconds, by the records of grants.events."""
    table = GrantTable()
    for record in records:
        event = parse_grant_event(record)
        if event is not None:
            table.apply(event)
    return {
        grant: table.since[grant] for grant, status in table.status.items() if status == "expired"
    }


def _selection(kafka: KafkaSettings) -> SelectionRecords:
    try:
        return read_control(kafka).selection
    except click.ClickException as error:
        click.echo(f"which mailboxes are selected: {error.format_message()}", err=True)
        return SelectionRecords()


def _since(kafka: KafkaSettings) -> dict[str, int]:
    try:
        return expired_since(topic_records(kafka, topics(kafka).grants.name))
    except click.ClickException as error:
        click.echo(f"expired_since is empty: {error.format_message()}", err=True)
        return {}


def _print(names: Sequence[str], rows: Sequence[Sequence[str]], form: Format) -> None:
    if form is Format.CSV:
        print_csv(names, rows)
    elif form is Format.JSON:
        print_json_rows(names, rows)
    else:
        titles = [name.replace("_", " ") for name in names]
        print_table(titles, [[value or "-" for value in row] for row in rows])
