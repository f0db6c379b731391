"""The option --lift of the command suppress: people may be written to Salesforce again.

An erasure lists a person's addresses and contact keys. The entry of a key names, as hashes, for
whom it was listed, so that it goes with the person's own entry. Entries of earlier versions do not;
then the keys are found that contacts.events still holds, and the receipt says what may be left.

The order, each step acknowledged before the next one: the audit notes that it began, with the
number of people, the reason, and nothing that names them; the entries get tombstones; the audit
notes the end. A lift that was interrupted is repeated.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import click

from connectors.salesforce.suppression import Suppression, load_suppression
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.suppress.held import held_of
from streams.commands.topic_records import topic_records
from streams.events import UnreadableRecord
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, PeopleSettings
from streams.suppression import SUPPRESSION_OBEYED_SECONDS, SuppressionEntry, parse_entry
from streams.topics import topics


@dataclass(frozen=True, slots=True)
class LiftReceipt:
    """What a lift found and did. It names nobody."""

    lifted: bool
    """False for a dry run."""
    people: int
    entries: int
    """Entries that leave the list."""
    not_listed: int
    """People whom the list does not hold."""
    may_be_left: int
    """Entries of an earlier version that were made together with one of these, and stay: keys of
    the same contacts, or other people."""


def lift(
    kafka: KafkaSettings,
    people_settings: PeopleSettings,
    people: Sequence[str],
    why: str,
    *,
    actor: str | None,
    dry_run: bool,
    json_output: bool,
    clock: Callable[[], float] = time.time,
) -> None:
    """Takes these addresses and contact keys off the list, and prints the receipt. Blocks.

    Raises click.UsageError where nobody of them is listed, or without a reason;
    click.ClickException and SuppressionError, each with the remedy.
    """
    if not why.strip():
        raise click.UsageError("--why is empty: the audit has to say why somebody comes back")
    by, names, now_ms = actor_name(actor), topics(kafka), int(clock() * 1000)
    _refuse_those_of_file(people_settings, people)
    listed = current_entries(topic_records(kafka, names.suppression.name))
    found = [person for person in people if entries_of(listed, [person])]
    if not found:
        raise click.UsageError(
            f"none of the {len(people)} people is on the list: name the address or the contact "
            "key that was given to contactstream suppress"
        )
    lifted = entries_of(listed, [*people, *held_of(kafka, found).keys])
    receipt = LiftReceipt(
        not dry_run,
        len(people),
        len(lifted),
        len(people) - len(found),
        len(made_together(listed, lifted)),
    )
    if not dry_run:
        selection = {"people": len(people)}
        noted = [
            audit_record(
                names.audit.name,
                AuditEntry(
                    f"{now_ms}-suppress-lift",
                    state,
                    now_ms,
                    by,
                    "suppress --lift",
                    why.strip(),
                    selection,
                    len(lifted),
                ),
            )
            for state in (AuditState.BEGUN, AuditState.ENDED)
        ]
        tombstones = [KafkaRecord(names.suppression.name, key, None, []) for key in lifted]
        try:
            with CommandPublisher(kafka) as publisher:
                publisher.publish(noted[:1])
                publisher.publish(tombstones)
                publisher.publish(noted[1:])
        except NotAcknowledged as error:
            raise click.ClickException(f"{error}; repeat the command") from error
    if json_output:
        click.echo(json.dumps(asdict(receipt), indent=2))
        return
    for line in receipt_lines(receipt):
        click.echo(line)


def current_entries(records: Iterable[KafkaRecord]) -> dict[bytes, SuppressionEntry]:
    """The entries of the list by their keys. A record that cannot be read is left out."""
    found: dict[bytes, SuppressionEntry] = {}
    for record in records:
        try:
            entry = parse_entry(record)
        except UnreadableRecord:
            continue
        if entry is None:
            found.pop(record.key or b"", None)
        else:
            found[entry.key] = entry
    return found


def entries_of(
    listed: Mapping[bytes, SuppressionEntry], values: Iterable[str]
) -> dict[bytes, SuppressionEntry]:
    """The entries of these addresses and keys, and those that were listed for them."""
    wanted = list(dict.fromkeys(values))
    salts = {entry.salt for entry in listed.values()}
    hashes = {salt: {Suppression(salt).entry(value) for value in wanted} for salt in salts}
    return {
        key: entry
        for key, entry in listed.items()
        if entry.hash in hashes[entry.salt] or not hashes[entry.salt].isdisjoint(entry.listed_for)
    }


def made_together(
    listed: Mapping[bytes, SuppressionEntry], lifted: Mapping[bytes, SuppressionEntry]
) -> list[bytes]:
    """Keys of the entries that stay, name nobody, and were made at a moment of a lifted one."""
    moments = {entry.at_ms for entry in lifted.values()}
    return [
        key
        for key, entry in listed.items()
        if key not in lifted and not entry.listed_for and entry.at_ms in moments
    ]


def receipt_lines(receipt: LiftReceipt) -> list[str]:
    """The receipt for a person."""
    would = "" if receipt.lifted else "would be "
    lines = [
        f"{receipt.people} people: {receipt.entries} entries {would}taken off the suppression list"
    ]
    if receipt.not_listed:
        lines.append(f"{receipt.not_listed} of them are not on the list")
    if receipt.may_be_left:
        lines.append(
            f"{receipt.may_be_left} entries that were made at the same moment stay. They are of "
            "other people, or contact keys of these: if somebody stays `suppressed`, lift the "
            "contact key too (grant_id/contact_id)"
        )
    if not receipt.lifted:
        lines.append("Nothing is changed; repeat it without --dry-run.")
        return lines
    lines.append(
        f"Every process obeys within {SUPPRESSION_OBEYED_SECONDS} seconds. Whoever is in an "
        "address book comes back with its next reading: contactstream reconcile --all"
    )
    return lines


def _refuse_those_of_file(settings: PeopleSettings, people: Sequence[str]) -> None:
    """Raises click.ClickException for people on the deprecated list in a file."""
    path = settings.suppression_list
    if path is None or not path.exists():
        return
    file = load_suppression(path)
    held = sum(file.holds([person]) for person in people)
    if held:
        raise click.ClickException(
            f"{held} of the people are in the file of PEOPLE_SUPPRESSION_LIST ({path}), which no "
            "command changes: take it into the topic with `contactstream suppress`, unset the "
            "setting for every process, and repeat this"
        )
