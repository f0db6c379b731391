"""The command selection: what becomes of the records of mailboxes that are selected no longer.

`preview` counts their contacts. `apply` publishes these as deleted, so that the sink releases,
flags or keeps their records, as PEOPLE_ON_DELETE says.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import click

from connectors.nylas.contacts import PAGE_SIZE
from connectors.salesforce.kept_fields import exclusion_by
from connectors.salesforce.policy import Policy
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.breakers import read_control
from streams.commands.exclusion_changes import newly_left_out
from streams.commands.mailboxes import KnownGrants, mailbox_figures
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.tables import print_table
from streams.commands.topic_records import topic_records
from streams.events import Origin
from streams.kafka.records import KafkaRecord
from streams.mailboxes import Choice, MailboxRule, Why
from streams.reader.bounded_keys import WHOLE, KeyPart
from streams.reader.comparison import LivingKeys, living_keys
from streams.reader.records import deletion_record
from streams.settings import KafkaSettings
from streams.topics import Topics, topics

OnDelete = Literal["release", "flag", "keep"]

WHAT_FOLLOWS: Mapping[OnDelete, str] = {
    "release": "the sink clears our key there, and the records stay",
    "flag": "the checkbox PEOPLE_FLAG_FIELD is set on the records",
    "keep": "nothing is written to the records",
}


def preview(kafka: KafkaSettings, setting: MailboxRule, on_delete: OnDelete) -> None:
    """Prints how many contacts each mailbox has that is selected no longer. Blocks.

    Raises click.ClickException when Kafka cannot be read.
    """
    left_out, addresses = _left_out(kafka, setting)
    counts: Counter[str] = Counter()
    for living in _living(kafka, left_out):
        counts.update(key.partition("/")[0] for key in living.versions)
    if not counts:
        click.echo("no mailbox that is left out has contacts in contacts.changes")
        return
    print_table(
        ("grant", "address", "contacts"),
        [(grant, addresses.get(grant) or "-", str(counts[grant])) for grant in sorted(counts)],
    )
    click.echo(
        f"An apply would publish {counts.total():,} contacts as deleted: "
        f"PEOPLE_ON_DELETE={on_delete}, so {WHAT_FOLLOWS[on_delete]}"
    )


def preview_exclusions(kafka: KafkaSettings, policy: Policy) -> None:
    """Prints how many synced contacts the exclusions of this command leave out. Blocks.

    Raises click.ClickException when Kafka cannot be read.
    """
    names = topics(kafka)
    counts = newly_left_out(topic_records(kafka, names.changes.name), exclusion_by(policy))
    if not counts:
        click.echo("the exclusions of the settings leave out no contact that is synced")
        return
    print_table(("left out", "contacts"), [(name, str(counts[name])) for name in sorted(counts)])
    click.echo(
        f"the exclusions of the settings leave out {counts.total():,} contacts that are synced: "
        "their records stay, and follow the address books no longer"
    )


def apply(
    kafka: KafkaSettings,
    setting: MailboxRule,
    on_delete: OnDelete,
    why: str,
    actor: str | None,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Publishes the contacts of mailboxes that are selected no longer as deleted. Blocks.

    An interrupted command is repeated: what was published is deleted already. Raises
    click.UsageError without a reason, and click.ClickException.
    """
    if not why.strip():
        raise click.UsageError("--why is missing: whoever reads the audit has to know")
    left_out, _ = _left_out(kafka, setting)
    names, now = topics(kafka), int(clock())
    action_id = f"{now}-selection-{secrets.token_hex(3)}"
    published = 0
    by = actor_name(actor)

    def noted(state: AuditState, count: int) -> KafkaRecord:
        at_ms = int(clock() * 1000)
        grants = {"grants": sorted(left_out)}
        entry = AuditEntry(
            action_id, state, at_ms, by, "selection apply", why.strip(), grants, count
        )
        return audit_record(names.audit.name, entry)

    try:
        with CommandPublisher(kafka) as publisher:
            publisher.publish([noted(AuditState.BEGUN, 0)])
            for living in _living(kafka, left_out):
                for page in _pages(sorted(living.versions)):
                    publisher.publish([_deletion(names, key, action_id, now) for key in page])
                    published += len(page)
            publisher.publish([noted(AuditState.ENDED, published)])
    except NotAcknowledged as error:
        raise click.ClickException(
            f"{error}; {published:,} contacts were published: repeat the command"
        ) from error
    click.echo(f"{published:,} contacts published as deleted; {WHAT_FOLLOWS[on_delete]}")


def left_out_grants(choices: Mapping[str, Choice]) -> list[str]:
    """The grants that nothing selects.

    One whose address is not known, or that a permission set may select whose users are not known,
    is none of them: nothing is decided about it yet.
    """
    return [grant for grant, choice in choices.items() if choice.why is Why.NO_ENTRY]


def _left_out(
    kafka: KafkaSettings, setting: MailboxRule
) -> tuple[list[str], Mapping[str, str | None]]:
    """The grants that are left out by the rule in force, and the address of each grant.

    Raises click.ClickException where this process has another rule: the reader has yet to put it
    in force, and dedupe would go on with the old one.
    """
    selection = read_control(kafka).selection
    if selection.in_force(setting) != setting:
        raise click.ClickException(
            "PEOPLE_MAILBOXES of this command is not what is in force: give the reader the same "
            "setting and start it anew"
        )
    known = KnownGrants.of(topic_records(kafka, topics(kafka).grants.name))
    living = known.living()
    return left_out_grants(mailbox_figures(selection, setting, living, 0).choices), living


def _living(kafka: KafkaSettings, grants: Sequence[str]) -> Iterator[LivingKeys]:
    """The living contacts of grants, in as many parts as memory needs."""
    if not grants:
        return

    def read(part: KeyPart) -> LivingKeys:
        return living_keys(topic_records(kafka, topics(kafka).changes.name), set(grants), part)

    first = read(WHOLE)
    yield first
    for part in first.part.others():
        yield read(part)


def _pages(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + PAGE_SIZE] for start in range(0, len(keys), PAGE_SIZE)]


def _deletion(names: Topics, key: str, action_id: str, now: int) -> KafkaRecord:
    grant, _, contact_id = key.partition("/")
    event_id = f"{action_id}/{contact_id}"
    return deletion_record(names, grant, contact_id, Origin.RECONCILE, event_id, now)
