"""What `contactstream explain` answers, given what the topics hold."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.policy import Policy
from connectors.salesforce.routing import Creation
from connectors.salesforce.suppression import Suppression
from streams.commands.explain import search
from streams.commands.explain.answer import Answer, answer
from streams.commands.explain.command import details_text, print_text
from streams.commands.explain.question import parse_question
from streams.commands.explain.search import Wanted, find
from streams.commands.explain.timeline import consumed
from streams.contact_groups import GroupRule
from streams.control import ControlTable
from streams.control_selection import (
    GrantChoice,
    GroupNames,
    grant_choice_record,
    group_names_record,
    groups_record,
)
from streams.dead_letters import dead_letter
from streams.dedupe.planner import DedupePlanner
from streams.events import Origin, event_headers, page_envelope
from streams.journal import EntryKind, JournalEntry, journal_record
from streams.kafka.records import Headers, KafkaRecord
from streams.mailboxes import Choice, Why
from streams.own_domains import OwnDomains, own_domains_record
from streams.runs import Progress, Run, RunKind, RunLog, RunState
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
BASE = 1_760_000_000
LEAD = "00Q5g00000000AAEAQ"


class World:
    """The topics, filled as the stages fill them."""

    def __init__(self) -> None:
        self.topics: dict[str, list[KafkaRecord]] = {topic.name: [] for topic in TOPICS.all()}
        self._planner = DedupePlanner(Policy().mapping, TOPICS)
        self._table: dict[bytes, bytes] = {}
        self.reads: list[str] = []

    def put(
        self, topic: str, key: str, value: bytes | None, headers: Headers, at: int = 0
    ) -> KafkaRecord:
        records = self.topics[topic]
        record = KafkaRecord(
            topic, key.encode(), value, headers, 0, len(records), (BASE + at) * 1000
        )
        records.append(record)
        return record

    def event(self, at: int, key: str = "g/1", version: int | None = None, **contact: Any) -> None:
        """An event, and what dedupe makes of it."""
        grant, _, contact_id = key.partition("/")
        body = {"grant_id": grant, "id": contact_id, "object": "contact", **contact}
        when = BASE + (at if version is None else version)
        value = page_envelope(Origin.WEBHOOK, f"n{at}", when, body)
        headers = event_headers(Origin.WEBHOOK, (BASE + at) * 1000)
        record = self.put(TOPICS.events.name, key, value, headers, at)
        plan = self._planner.plan([consumed(record)], self._table, BASE + at)
        self._table |= plan.entries
        for topic, change, _, written in plan.outputs:
            self.put(topic, key, change, list(written), at)

    def outcome(self, at: int, status: str, key: str = "g/1", **fields: Any) -> None:
        value = {"outcome": status, "version": BASE + at, "at_ms": (BASE + at) * 1000, **fields}
        self.put(TOPICS.outcomes.name, key, orjson.dumps(value), [], at)

    def read(self, topic: str, wanted: Wanted) -> Iterable[KafkaRecord]:
        """As the scan does: what is wanted, and the oldest record in any case."""
        self.reads.append(topic)
        records = self.topics[topic]
        places = wanted([one.key for one in records], [one.value for one in records])
        return [records[place] for place in sorted({*places, *range(len(records))[:1]})]

    def explain(
        self,
        text: str,
        policy: Policy | None = None,
        runs: RunLog | None = None,
        control: ControlTable | None = None,
    ) -> Answer:
        question = parse_question(text)
        found = find(question, self.read, TOPICS)
        return answer(question, found, runs or RunLog(), policy or Policy(), TOPICS, control)


def mail(address: str) -> list[dict[str, str]]:
    return [{"email": address}]


def steps(result: Answer, number: int = 0) -> list[tuple[str, str]]:
    return [(entry.what, entry.result) for entry in result.contacts[number].entries]


@pytest.mark.parametrize(
    ("outcome", "reason", "note"),
    [
        ("held", "creations_per_day", "a day than SINK_CREATIONS_PER_DAY. Nothing was written"),
        ("held", "of tomorrow", "held: of tomorrow"),
        ("planned", "create", "only planned (create): nothing is written in the mode report-only"),
    ],
)
def test_who_waits_for_a_person_is_said_with_the_reason_and_the_remedy(
    outcome: str, reason: str, note: str
) -> None:
    world = World()
    world.event(10, given_name="Ada", emails=mail("ada@acme.example"))
    world.outcome(12, outcome, reason=reason)
    (found,) = world.explain("g/1").notes
    assert note in found
    assert "contactstream " in found
    world.outcome(20, "created", sobject="Lead", id=LEAD)
    assert world.explain("g/1").notes == ()


def test_the_timeline_shows_each_event_with_its_decision_and_what_came_of_it() -> None:
    world = World()
    world.event(10, given_name="Ada", emails=mail("ada@acme.example"))
    world.outcome(12, "created", sobject="Lead", id=LEAD)
    world.event(20, given_name="Ada", emails=mail("ada@acme.example"), notes="met in Rome")
    world.event(30, version=5, given_name="Old", emails=mail("ada@acme.example"))
    world.event(40, given_name="Ada", job_title="CTO", emails=mail("ada@acme.example"))
    world.outcome(42, "updated", sobject="Lead", id=LEAD, matched="key")
    result = world.explain("g/1")
    assert steps(result) == [
        ("event", "forwarded"),
        ("change", "updated"),
        ("outcome", "created"),
        ("event", "dropped"),
        ("event", "dropped"),
        ("event", "forwarded"),
        ("change", "updated"),
        ("outcome", "updated"),
    ]
    (contact,) = result.contacts
    same, stale = contact.entries[3], contact.entries[4]
    assert (same.details["reason"], same.details["differs"]) == ("duplicate", [])
    assert stale.details["reason"] == "stale"
    assert stale.version == BASE + 5
    assert contact.entries[5].details["differs"] == ["job_title"]
    assert (contact.sobject, contact.record_id, contact.owner) == ("Lead", LEAD, True)


def test_an_address_shows_every_contact_that_carries_it_and_who_owns_the_record() -> None:
    world = World()
    world.event(10, "g/1", emails=mail("ada@acme.example"))
    world.event(11, "h/2", emails=mail("ADA@acme.example"))
    world.event(12, "h/3", emails=mail("bob@acme.example"))
    world.outcome(13, "created", "g/1", sobject="Lead", id=LEAD)
    world.outcome(14, "filled", "h/2", sobject="Lead", id=LEAD)
    owner, other = world.explain("ada@acme.example").contacts
    assert (owner.key, owner.owner) == ("g/1", True)
    assert (other.key, other.owner, other.record_id) == ("h/2", False, LEAD)


def test_an_address_that_a_contact_had_earlier_is_found_in_its_events() -> None:
    world = World()
    world.event(10, emails=mail("old@acme.example"))
    world.topics[TOPICS.changes.name].clear()
    world.event(20, emails=mail("new@acme.example"))
    assert [each.key for each in world.explain("old@acme.example").contacts] == ["g/1"]


def test_a_record_shows_the_contacts_that_were_written_to_it() -> None:
    world = World()
    world.event(10, emails=mail("ada@acme.example"))
    world.outcome(12, "created", sobject="Lead", id=LEAD)
    world.outcome(13, "ambiguous", "h/2", candidates=[LEAD, "0035g00000000BBBA1"])
    world.outcome(14, "created", "h/3", sobject="Lead", id="00Q5g00000000ZZEAQ")
    found = world.explain(LEAD[:15])
    assert [each.key for each in found.contacts] == ["g/1", "h/2"]


def test_a_dead_letter_shows_its_reason_and_how_often_it_failed() -> None:
    world = World()
    world.event(10, emails=mail("ada@acme.example"))
    failed = world.topics[TOPICS.changes.name][0]
    record = dead_letter(
        TOPICS.dead_letter.name, failed, "sink", "FIELD_CUSTOM_VALIDATION_EXCEPTION", attempts=3
    )
    world.put(record.topic, (record.key or b"").decode(), record.value, record.headers, 20)
    letter = world.explain("g/1").contacts[0].entries[-1]
    assert (letter.what, letter.result) == ("dead_letter", "FIELD_CUSTOM_VALIDATION_EXCEPTION")
    assert (letter.details["stage"], letter.details["attempts"]) == ("sink", 3)


def test_a_dead_letter_is_found_behind_those_of_others() -> None:
    world = World()
    for at, key in ((10, "g/other"), (11, "g/1")):
        world.event(at, key, emails=mail("ada@acme.example"))
        letter = dead_letter(
            TOPICS.dead_letter.name, world.topics[TOPICS.changes.name][-1], "sink", "x"
        )
        world.put(letter.topic, (letter.key or b"").decode(), letter.value, letter.headers, at)
    assert ("dead_letter", "x") in steps(world.explain("g/1"))


def test_a_replaced_value_is_shown_masked_with_its_run() -> None:
    world = World()
    world.event(10, emails=mail("ada@acme.example"))
    for key in ("g/other", "g/1"):
        entry = JournalEntry(
            kind=EntryKind.REPLACED,
            sobject="Lead",
            record_id=LEAD,
            field="Title",
            old="Engineer",
            new="Analyst",
            change="1-1",
            contact_key=key,
            run="backfill-1",
            origin="backfill",
            restored=False,
            version=BASE + 10,
            at_ms=(BASE + 20) * 1000,
        )
        world.put(TOPICS.journal.name, entry.key.decode(), journal_record("", entry).value, [], 20)
        created = replace(entry, kind=EntryKind.CREATED, field="", old=None, new=None)
        value = journal_record("", created).value
        world.put(TOPICS.journal.name, created.key.decode(), value, [], 20)
    result = world.explain("g/1")
    found = [each for each in result.contacts[0].entries if each.what == "journal"]
    assert [each.result for each in found] == ["replaced"], "an outcome says what was created"
    text = details_text(found[0])
    assert "field Lead.Title, before E***, since A***" in text
    assert "run backfill-1" in text
    assert "Engineer" not in text + "".join(map(str, result.contacts))


def test_the_runs_that_read_the_grant_are_named() -> None:
    world = World()
    world.event(10, emails=mail("ada@acme.example"))
    log = RunLog(
        {"r1": Run(RunKind.BACKFILL, None, BASE, "command", state=RunState.DONE)},
        {"r1": {"g": Progress(RunState.SKIPPED)}},
    )
    (run,) = world.explain("g/1", runs=log).contacts[0].runs
    assert (run.run_id, run.state, run.grant_state) == ("r1", "done", "skipped")


def grant_event(world: World, status: str) -> None:
    body = {"type": f"grant.{status}", "time": BASE, "data": {"object": {"grant_id": "g"}}}
    world.put(TOPICS.grants.name, "g", orjson.dumps(body), [])


def test_a_contact_that_was_not_seen_gets_the_reasons_that_there_may_be() -> None:
    world = World()
    world.event(10, "other/1", emails=mail("bob@acme.example"))
    grant_event(world, "expired")
    result = world.explain("g/1")
    assert not result.contacts
    assert result.notes == (
        "No topic holds anything of it.",
        "Events are kept since 2025-10-09 08:53:30Z.",
        "The grant g is expired since 2025-10-09 08:53:20Z: Nylas sends nothing of it.",
    )
    assert "The grant h is not known" in world.explain("h/1").notes[-1]


def test_a_mailbox_that_is_left_out_is_named_with_its_reason() -> None:
    world, control = World(), ControlTable()
    for grant, selected in (("g", False), ("h", True)):
        choice = Choice(selected, Why.ADDRESS if selected else Why.NO_ENTRY, "h@acme.example")
        decided = GrantChoice(grant, choice, (BASE + 60) * 1000)
        control.apply(grant_choice_record(TOPICS, decided))
    note = world.explain("g/1", control=control).notes[-1]
    assert "The mailbox of g is left out (not_selected) since 2025-10-09 08:54:20Z" in note
    assert "PEOPLE_MAILBOXES" in note
    world.event(10, emails=mail("ada@acme.example"))
    assert "(not_selected)" in world.explain("ada@acme.example", control=control).notes[0]
    assert "not_selected" not in "".join(world.explain("h/1", control=control).notes)


def test_who_is_left_out_for_the_contact_groups_is_told_which_entries_do_it() -> None:
    world, control = World(), ControlTable()
    control.apply(groups_record(TOPICS, GroupRule(("Customers",), ("Private",)), 9))
    control.apply(group_names_record(TOPICS, GroupNames("g", {"1": "VIP", "2": ""}, 9)))
    world.event(10, given_name="Ada", groups=[{"id": "1"}])
    world.outcome(12, "skipped", reason="not_in_group")
    result = world.explain("g/1", control=control)
    assert steps(result)[0] == ("event", "forwarded"), "dedupe forwards the reason"
    (note,) = result.notes
    assert "none of the contact groups that are synced (PEOPLE_GROUPS: Customers)" in note
    assert "Its address book has: VIP" in note
    world.outcome(20, "released", reason="excluded_group")
    (note,) = world.explain("g/1", control=control).notes
    assert "PEOPLE_EXCLUDED_GROUPS: Private" in note


def test_an_address_at_a_derived_own_domain_is_a_colleagues() -> None:
    control = ControlTable()
    control.apply(own_domains_record(TOPICS, OwnDomains({"us.example": 1})))
    note = World().explain("eve@eu.us.example", control=control).notes[-1]
    assert "a connected mailbox is at its domain (own domains: us.example)" in note
    assert "colleague" not in "".join(World().explain("eve@x.example", control=control).notes)


def test_the_settings_that_leave_an_address_out_are_named() -> None:
    world = World()
    policy = Policy(
        exclusions=Exclusions(own_domains=frozenset({"us.example"})),
        suppression=Suppression().adding(["gone@acme.example"]),
        creation=Creation(free_mail=False),
    )

    def note(address: str) -> str:
        return world.explain(address, policy).notes[-1]

    assert "suppression list" in note("gone@acme.example")
    assert "a function" in note("billing@acme.example")
    assert "PEOPLE_OWN_DOMAINS" in note("eve@us.example")
    assert "PEOPLE_CREATE_FREE_MAIL" in note("ada@gmail.com")
    assert "contacts.events is empty" in note("ada@acme.example")


def test_an_address_that_nobody_has_is_searched_in_changes_and_events_only_once() -> None:
    world = World()
    world.event(10, emails=mail("ada@acme.example"))
    world.explain("nobody@acme.example")
    assert world.reads.count(TOPICS.changes.name) == 1
    assert world.reads.count(TOPICS.events.name) == 1
    assert TOPICS.outcomes.name not in world.reads


def test_a_shared_address_shows_a_bounded_number_of_contacts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MAX_CONTACTS", 2)
    world = World()
    for number in range(5):
        world.event(10 + number, f"g/{number}", emails=mail("team@acme.example"))
    result = world.explain("team@acme.example")
    assert (len(result.contacts), result.more_contacts) == (2, 3)


def test_a_contact_that_changes_often_shows_its_newest_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MAX_RECORDS", 3)
    world = World()
    for number in range(5):
        world.event(10 + number, emails=mail(f"a{number}@acme.example"))
    (contact,) = world.explain("g/1").contacts
    assert contact.left_out == 4, "two events and two changes"
    assert [entry.version for entry in contact.entries if entry.what == "event"] == [
        BASE + 12,
        BASE + 13,
        BASE + 14,
    ]


def test_the_text_fits_into_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    key = "3f0e6c1a-8a51-4b6e-9c55-0d4f9d3a7b01/AAMkADg1YjVjNzg3LWE2NjItNDI3Zi05"
    world.event(10, key, given_name="Ada", job_title="CTO", emails=mail("ada@acme.example"))
    world.outcome(12, "created", key, sobject="Lead", id=LEAD)
    print_text(world.explain(key), "https://acme.my.salesforce.com")
    lines = capsys.readouterr().out.splitlines()
    assert f"https://acme.my.salesforce.com/{LEAD}" in "".join(lines)
    assert max(map(len, lines)) <= 80


def test_an_address_that_nobody_has_says_since_when_events_are_kept() -> None:
    world = World()
    world.event(10, given_name="Ada", emails=mail("ada@acme.example"))
    result = world.explain("bob@acme.example")
    assert result.contacts == ()
    assert any(note.startswith("Events are kept since") for note in result.notes)
    assert "contacts.events is empty" not in " ".join(result.notes)
