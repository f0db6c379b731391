"""The command suppress: erases people, and keeps them from being written again.

The order, each step acknowledged before the next one:

1. The audit notes that an erasure began, with the number of people and nothing that names them.
2. contactstream.suppression gets their addresses and contact keys as salted hashes.
3. After SUPPRESSION_OBEYED_SECONDS every process knows them. Then an erasure for each contact goes
   through contacts.events: dedupe ends what it keeps, and the sink clears what is ours in the org.
4. Journal, deleted records and dead letters get their tombstones.
5. The audit notes the end, and the receipt is printed.

An erasure that was interrupted is repeated.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.suppression import GrowingSuppression, Suppression, load_suppression
from streams.audit import AuditEntry, AuditState, audit_record
from streams.commands.actor import actor_name
from streams.commands.dead_letters.command import erase as erase_letters
from streams.commands.publishing import CommandPublisher, NotAcknowledged
from streams.commands.suppress.held import Held, counts, held_of
from streams.commands.suppress.people import split
from streams.commands.suppress.receipt import (
    Receipt,
    TopicLine,
    as_json,
    clean_at,
    mentions,
    text_lines,
)
from streams.commands.topic_records import topic_records
from streams.events import Origin, event_headers, page_envelope
from streams.kafka.admin import topic_settings
from streams.kafka.clients import client_config
from streams.kafka.records import KafkaRecord
from streams.settings import KafkaSettings, PeopleSettings
from streams.suppression import (
    SUPPRESSION_OBEYED_SECONDS,
    SuppressionEntry,
    apply_record,
    entries_of_file,
    entry_record,
    new_entries,
)
from streams.topics import Topics, topics


def read_suppression(kafka: KafkaSettings) -> GrowingSuppression:
    """The list of the topic. Blocks. Raises click.ClickException."""
    listed = GrowingSuppression()
    for record in topic_records(kafka, topics(kafka).suppression.name):
        apply_record(listed, record)
    return listed


def suppress(
    kafka: KafkaSettings,
    people_settings: PeopleSettings,
    people: Sequence[str],
    *,
    actor: str | None,
    dry_run: bool,
    json_output: bool,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> None:
    """Erases these addresses and contact keys, and prints the receipt. Blocks.

    Raises click.ClickException and SuppressionError, each with the remedy.
    """
    by = actor_name(actor)
    names, now_ms = topics(kafka), int(clock() * 1000)
    listed = read_suppression(kafka)
    path = people_settings.suppression_list
    file = load_suppression(path) if path is not None and path.exists() else Suppression()
    held = held_of(kafka, people)
    imported = list(entries_of_file(listed, file))
    added = new_entries(listed, [*people, *held.keys], held.found_for)
    letters = erase_letters(kafka, *_letters_of(people, held), by, dry_run=True)
    found = {**counts(held), names.dead_letter.name: letters}
    addresses, keys = _letters_of(people, held)
    audit_mentions, run_mentions = (
        mentions(topic_records(kafka, topic.name), addresses, keys)
        for topic in (names.audit, names.runs)
    )
    receipt = Receipt(
        erased=not dry_run,
        people=len(people),
        contacts=len(held.keys),
        listed=len(added),
        imported=len(imported),
        topics=_lines(kafka, held, found, now_ms),
        record_ids=held.record_ids,
        audit_mentions=audit_mentions,
        run_mentions=run_mentions,
    )
    if not dry_run:
        try:
            _carry_out(kafka, names, [*imported, *added], held, people, by, now_ms, sleep)
        except NotAcknowledged as error:
            raise click.ClickException(f"{error}; repeat the command") from error
        erase_letters(kafka, *_letters_of(people, held), by, dry_run=False)
    if json_output:
        click.echo(as_json(receipt))
        return
    for line in text_lines(receipt):
        click.echo(line)


def erasure_record(topics: Topics, key: str, now_ms: int) -> KafkaRecord:
    """The event that has dedupe and the sink erase a contact."""
    grant, _, contact = key.partition("/")
    value = page_envelope(
        Origin.ERASURE,
        f"erasure-{now_ms}",
        now_ms // 1000,
        {"grant_id": grant, "id": contact, "object": "contact"},
        deleted=True,
    )
    headers = event_headers(Origin.ERASURE, now_ms)
    return KafkaRecord(topics.events.name, key.encode(), value, headers)


def _carry_out(
    kafka: KafkaSettings,
    names: Topics,
    entries: Sequence[SuppressionEntry],
    held: Held,
    people: Sequence[str],
    by: str,
    now_ms: int,
    sleep: Callable[[float], None],
) -> None:
    def noted(state: AuditState) -> KafkaRecord:
        entry = AuditEntry(
            f"{now_ms}-suppress",
            state,
            now_ms,
            by,
            "suppress",
            "",
            {"people": len(people)},
            len(held.keys),
        )
        return audit_record(names.audit.name, entry)

    with CommandPublisher(kafka) as publisher:
        publisher.publish([noted(AuditState.BEGUN)])
        publisher.publish([entry_record(names, entry, now_ms) for entry in entries])
        if held.keys:
            # Until then a process may still let a notification of the person through.
            sleep(SUPPRESSION_OBEYED_SECONDS)
        publisher.publish([erasure_record(names, key, now_ms) for key in held.keys])
        for topic in (names.journal.name, names.deleted_records.name):
            publisher.publish(
                [KafkaRecord(topic, record.key, None, []) for record in held.records.get(topic, ())]
            )
        publisher.publish([noted(AuditState.ENDED)])


def _letters_of(people: Sequence[str], held: Held) -> tuple[list[str], list[str]]:
    addresses, keys = split(people)
    return addresses, sorted({*keys, *held.keys})


def _lines(
    kafka: KafkaSettings, held: Held, found: Mapping[str, int], now_ms: int
) -> list[TopicLine]:
    admin = AdminClient(client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None})
    try:
        settings = topic_settings(admin, found)
    except KafkaException as error:
        raise click.ClickException(
            f"the topics' settings cannot be read: {error.args[0].str()}"
        ) from error
    lines = []
    for topic, count in found.items():
        times = [record.timestamp_ms for record in held.records.get(topic, ())]
        clean_ms = clean_at(settings[topic], max(times, default=now_ms), now_ms)
        lines.append(TopicLine(topic, count, clean_ms if count else None))
    return lines
