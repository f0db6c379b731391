"""The command selection: what becomes of the records of people who are left out by now.

They are the contacts of mailboxes that are selected no longer, and people who were synced and whom
the exclusions leave out since. `preview` counts them. `apply` publishes them as deleted, so that
the sink releases, flags or keeps their records, as PEOPLE_ON_DELETE says.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import click

from connectors.nylas.contacts import PAGE_SIZE
from connectors.salesforce.person import grant_of
from connectors.salesforce.policy import OnDelete
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.left_out import (
    NOT_SELECTED,
    REASONS,
    LeftOut,
    WantedSelection,
    names_exclusions,
    names_groups,
    of_exclusions,
    of_mailboxes,
    read_left_out,
    to_settle,
)
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.tables import print_table
from streams.events import Origin
from streams.kafka.records import KafkaRecord
from streams.reader.records import deletion_record
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

WHAT_FOLLOWS: Mapping[OnDelete, str] = {
    OnDelete.RELEASE: "the sink clears our key there, and the records stay",
    OnDelete.FLAG: "the checkbox PEOPLE_FLAG_FIELD is set on the records",
    OnDelete.KEEP: "nothing is written to the records",
}


def checked_reasons(given: Sequence[str]) -> tuple[str, ...]:
    """The reasons that a user names; all without any. Raises click.UsageError."""
    for name in given:
        if name not in REASONS:
            close = get_close_matches(name.lower(), REASONS, 1)
            hint = f"did you mean {close[0]}?" if close else f"it is one of {', '.join(REASONS)}"
            raise click.UsageError(f"--reason: there is no reason {name!r}; {hint}")
    return tuple(given) or REASONS


def preview(kafka: KafkaSettings, wanted: WantedSelection) -> None:
    """Prints how many contacts are left out whose records are not settled. Blocks.

    Raises click.ClickException when Kafka cannot be read.
    """
    left_out = read_left_out(kafka, wanted)
    found: Counter[str] = Counter()
    if NOT_SELECTED in wanted.reasons:
        found += _preview_mailboxes(kafka, left_out)
    if names_exclusions(wanted):
        found += _preview_exclusions(kafka, wanted, left_out)
    if found:
        on_delete = wanted.policy.on_delete
        click.echo(
            f"An apply would publish {found.total():,} contacts as deleted: "
            f"PEOPLE_ON_DELETE={on_delete.value}, so {WHAT_FOLLOWS[on_delete]}"
        )


def _preview_mailboxes(kafka: KafkaSettings, left_out: LeftOut) -> Counter[str]:
    counts: Counter[str] = Counter()
    for living in of_mailboxes(kafka, left_out.grants):
        counts.update(map(grant_of, living.versions))
    if not counts:
        click.echo("no mailbox that is left out has contacts in contacts.changes")
        return counts
    addresses = left_out.addresses
    print_table(
        ("grant", "address", "contacts"),
        [(grant, addresses.get(grant) or "-", str(counts[grant])) for grant in sorted(counts)],
    )
    return Counter({NOT_SELECTED: counts.total()})


def _preview_exclusions(
    kafka: KafkaSettings, wanted: WantedSelection, left_out: LeftOut
) -> Counter[str]:
    counts: Counter[str] = Counter()
    if not (left_out.exclusions_in_force and left_out.groups_in_force):
        click.echo(
            "the exclusions or contact groups of this command are not in force yet: an apply needs "
            "them on reader, dedupe and sink"
        )
    if wanted.groups.reads_groups and not left_out.groups_known:
        click.echo(
            "no contact group was read so far, so that none is counted: put PEOPLE_GROUPS in "
            "force, then run contactstream reconcile --all"
        )
    for part in of_exclusions(kafka, wanted, left_out):
        counts.update(part.values())
    if not counts:
        click.echo("the exclusions of the settings leave out no contact that was synced")
        return counts
    print_table(("left out", "contacts"), [(name, str(counts[name])) for name in sorted(counts)])
    click.echo(
        f"the exclusions of the settings leave out {counts.total():,} contacts that were synced: "
        "their records stay until an apply, and follow the address books no longer"
    )
    return counts


def apply(
    kafka: KafkaSettings,
    wanted: WantedSelection,
    why: str,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Publishes the contacts that are left out and whose records are not settled as deleted.

    Blocks. An interrupted command is repeated: what was published is deleted already. Raises
    click.UsageError without a reason, and click.ClickException, also where the exclusions of the
    command are not in force.
    """
    if not why.strip():
        raise click.UsageError("--why is missing: whoever reads the audit has to know")
    left_out = read_left_out(kafka, wanted)
    if names_groups(wanted) and not left_out.groups_in_force:
        raise click.ClickException(
            "PEOPLE_GROUPS and PEOPLE_EXCLUDED_GROUPS of this command are not what is in force: "
            "give reader and dedupe the same settings and start them anew"
        )
    if names_exclusions(wanted) and not left_out.exclusions_in_force:
        raise click.ClickException(
            "the exclusions of this command are not what is in force (PEOPLE_EXCLUDED_*, "
            "PEOPLE_OWN_DOMAINS, PEOPLE_ROLE_NAMES, PEOPLE_PRESET, NYLAS_SOURCES): give reader, "
            "dedupe and sink the same settings and start them anew, or settle mailboxes alone with "
            f"--reason {NOT_SELECTED}"
        )
    names, now = topics(kafka), int(clock())
    action_id = f"{now}-selection-{secrets.token_hex(3)}"
    published: Counter[str] = Counter()
    by = actor_name(actor)

    def noted(state: AuditState) -> KafkaRecord:
        at_ms = int(clock() * 1000)
        selection = {"grants": sorted(left_out.grants), "reasons": list(wanted.reasons)}
        entry = AuditEntry(
            action_id,
            state,
            at_ms,
            by,
            "selection apply",
            why.strip(),
            selection,
            published.total(),
        )
        return audit_record(names.audit.name, entry)

    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([noted(AuditState.BEGUN)])
            for part in to_settle(kafka, wanted, left_out):
                for page in _pages(sorted(part)):
                    publisher.publish([_deletion(names, key, action_id, now) for key in page])
                    published.update(part[key] for key in page)
            publisher.publish([noted(AuditState.ENDED)])
    except NotAcknowledged as error:
        raise click.ClickException(
            f"{error}; {published.total():,} contacts were published: repeat the command"
        ) from error
    for reason in sorted(published):
        click.echo(f"{reason}: {published[reason]:,}")
    click.echo(
        f"{published.total():,} contacts published as deleted; "
        f"{WHAT_FOLLOWS[wanted.policy.on_delete]}"
    )


def _pages(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE_SIZE] for start in range(0, len(keys), PAGE_SIZE)]


def _deletion(names: Topics, key: str, action_id: str, now: int) -> KafkaRecord:
    grant, _, contact_id = key.partition("/")
    event_id = f"{action_id}/{contact_id}"
    return deletion_record(names, grant, contact_id, Origin.RECONCILE, event_id, now)
