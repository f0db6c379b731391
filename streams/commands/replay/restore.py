"""The restore of a replay: which fields it may claim, and how many values it would replace."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

from connectors.salesforce.mapping_rules import FieldMapping
from connectors.salesforce.outcome import ContactVersion
from connectors.salesforce.planned_records import PlannedRecords
from connectors.salesforce.policy import Policy
from connectors.salesforce.replaced_values import replaced_values
from connectors.salesforce.sync import MAX_BATCH
from streams.commands.plan import planned_batches
from streams.events import Kind, UnreadableRecord, parse_change
from streams.kafka.records import KafkaRecord
from streams.reader.replay_page import SelectedContacts, candidate_of
from streams.runs import ReplaySource
from streams.selection import Selection, UnusableSelection
from streams.settings import SalesforceSettings
from streams.sink.account_topic import AccountTopicReader


def parse_restore(values: Iterable[str], mapping: FieldMapping) -> tuple[str, ...]:
    """The fields of --restore, in order. Each value may name several, separated by commas.

    Raises UnusableSelection for a field that the mapping does not write, with a suggestion.
    """
    known = {rule.field.lower(): rule.field for rule in (*mapping.contact, *mapping.lead)}
    chosen: set[str] = set()
    for text in (part.strip() for value in values for part in value.split(",")):
        if not text:
            continue
        if text.lower() not in known:
            close = get_close_matches(text.lower(), known, 1)
            hint = (
                f"did you mean {known[close[0]]}?"
                if close
                else f"the mapping has {', '.join(sorted(known.values()))}"
            )
            raise UnusableSelection(f"--restore {text}: no mapped field; {hint}")
        chosen.add(known[text.lower()])
    if not chosen and any(True for _ in values):
        raise UnusableSelection("--restore names no field")
    return tuple(sorted(chosen))


def changes_to_restore(
    records: Iterable[KafkaRecord],
    selection: Selection,
    selected: SelectedContacts,
    names: Collection[str],
) -> Iterator[ContactVersion]:
    """The selected changes as the sink would take them, each contact once in a batch.

    A contact whose older change is still in the topic may come again in a later batch.
    """
    restore = frozenset(names)
    batch: dict[str, ContactVersion] = {}
    for record in records:
        candidate = candidate_of(ReplaySource.CHANGES, record)
        if candidate is None or not selection.takes(candidate) or candidate.key not in selected:
            continue
        try:
            change = parse_change(record.key, record.value, record.headers)
        except UnreadableRecord:
            continue  # `candidate_of` leaves it out
        if change is None:
            continue
        contact = None if change.kind is Kind.DELETED else change.contact
        known = batch.get(change.key)
        if known is None or change.version >= known.version:
            batch[change.key] = ContactVersion(change.key, change.version, contact, restore)
        if len(batch) >= MAX_BATCH:
            yield from batch.values()
            batch = {}
    yield from batch.values()


async def count_replaced(
    settings: SalesforceSettings,
    allowed: Policy,
    changes: Iterator[ContactVersion],
    names: Collection[str],
    accounts: AccountTopicReader | None,
) -> Counter[str]:
    """How many values of people and other systems the restore would replace, by `Lead.Title`.

    Looks every contact up in the org, a call for each 1,000 or two, and writes nothing. Raises
    PlanError, SettingsError, SalesforceError.
    """
    found: Counter[str] = Counter()
    planned = PlannedRecords()
    async for plan in planned_batches(settings, allowed, changes, planned, accounts):
        found += replaced_values(plan, names)
    return found
