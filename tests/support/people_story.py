"""People, grants and dead letters of a made-up deployment, for the console's pages."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import orjson

from streams.audit import AuditEntry, AuditState
from streams.commands.dead_letters.open_letters import OpenLetter
from streams.commands.explain.answer import Answer, ContactAnswer
from streams.commands.explain.question import Question
from streams.commands.explain.timeline import Entry
from streams.commands.held import PlannedRelease, release_selection
from streams.console.audit_trail import AuditTrail
from streams.console.letter_actions import Acting, PlannedAction
from streams.console.pages.dead_letters import DeadLettersPage
from streams.console.pages.grants import GrantsPage
from streams.console.pages.people import PeoplePage
from streams.console.pages.person import PersonPage
from streams.console.person_search import FoundPerson, PersonSearch
from streams.console.reading import NotReadable
from streams.console.shell import Page, Shell
from streams.console.state.control import ControlState
from streams.console.state.grants import GrantState
from streams.console.state.letters import LetterState
from streams.console.state.people import PeopleState, Standing
from streams.control import ControlTable
from streams.dead_letters import DeadLetter, dead_letter, parse_dead_letter
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.mailboxes import MailboxRule
from streams.settings import KafkaSettings, NylasSettings, load
from streams.topics import topics

KAFKA = load(KafkaSettings, {})
TOPICS = topics(KAFKA)
BASE = 1_760_000_000
LINKED = {
    "NYLAS_CLIENT_ID": "acme-app",
    "NYLAS_REDIRECT_URI": "https://app.acme.example/nylas",
}
ORG = "https://acme.my.salesforce.com"
HOSTILE = '<script>alert("x")</script>'


class Ready:
    """A topic that was read."""

    async def ready(self) -> None:
        return

    async def catch_up(self) -> None:
        return


class StillReading(Ready):
    """A topic that is being read."""

    async def ready(self) -> None:
        raise NotReadable("contacts.outcomes is being read; 7 records so far.")


class Audited(AuditTrail):
    """An audit that is kept in a list."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def begin(
        self, actor: str, action: str, why: str, selection: Mapping[str, Any], count: int
    ) -> AuditEntry:
        entry = AuditEntry("1", AuditState.BEGUN, 1, actor, action, why, selection, count)
        self.entries.append(entry)
        return entry

    async def end(self, entry: AuditEntry, count: int) -> None:
        return


class Letters:
    """The letters, and what was done with them."""

    def __init__(self) -> None:
        self.state = LetterState(TOPICS)
        self.whole_letters: dict[str, DeadLetter] = {}
        self.revealed: list[tuple[str, str]] = []
        self.done: list[tuple[str, Acting, list[str]]] = []
        self.records = 0

    def add(
        self,
        contact_key: str,
        reason: str = "string_too_long",
        email: str = "ada@x.example",
        stage: str = "sink",
    ) -> None:
        """Adds an open letter."""
        headers = change_headers(Kind.UPDATED, BASE, "f", "m", b"webhook", b"1")
        value = orjson.dumps({"surname": HOSTILE, "emails": [{"email": email}]})
        failed = KafkaRecord(
            TOPICS.changes.name, contact_key.encode(), value, headers, 0, self.records
        )
        made = dead_letter(TOPICS.dead_letter.name, failed, stage, reason, f"quotes {email}")
        record = KafkaRecord(made.topic, made.key, made.value, made.headers, 0, self.records)
        self.records += 1
        self.state.take(record)
        letter = parse_dead_letter(record)
        assert letter is not None
        self.whole_letters[letter.letter_id] = letter

    def whole(self, letter: OpenLetter) -> DeadLetter:
        """A letter with its value."""
        return self.whole_letters[letter.letter_id]

    def note_reveal(self, person: str, letter_id: str) -> None:
        """Notes who looks."""
        self.revealed.append((person, letter_id))

    def plan(self, action: str, letters: Sequence[OpenLetter]) -> PlannedAction:
        """All of them, except those without a contact ID."""
        chosen = [each for each in letters if each.reason != "no_contact_id"]
        refused = {"run backfill": len(letters) - len(chosen)} if chosen != list(letters) else {}
        return PlannedAction("1", chosen, refused, None)

    def carry_out(
        self, action: str, planned: PlannedAction, acting: Acting, progress: Callable[[int], None]
    ) -> int:
        """Closes them."""
        if acting.why == "the broker is away":
            raise click.ClickException("it was not written")
        self.done.append((action, acting, [each.contact_key for each in planned.chosen]))
        for each in planned.chosen:
            self.state.take(
                KafkaRecord(TOPICS.dead_letter.name, each.key, None, [], 0, self.records)
            )
            self.records += 1
        return len(planned.chosen)


class Releases:
    """Releases held people of a world at once."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.done: list[tuple[str, str, int]] = []
        """Who, why, and how many."""

    def plan(self, grant: str, limit: str) -> PlannedRelease:
        """The held people of a grant, or all."""
        selection = release_selection(
            [grant] if grant else [], [limit] if limit else [], everybody=not grant and not limit
        )
        held = self._world.people.listed(Standing.HELD, grant)
        counts = Counter(one.reason for one in held if limit in ("", one.reason))
        if not counts:
            raise click.ClickException("nobody of these is held; see: contactstream held")
        return PlannedRelease(selection, counts, ControlTable())

    def carry_out(self, planned: PlannedRelease, why: str, who: str) -> str:
        """Has them written."""
        if why == "the broker is away":
            raise click.ClickException("the release was begun; repeat the command")
        self.done.append((who, why, planned.people))
        for one in list(self._world.people.listed(Standing.HELD, "")):
            if one.reason in planned.counts:
                self._world.outcome(one.key, "created")
        return "20261130T120000Z-replay-1"


class World:
    """What the pages show."""

    def __init__(self) -> None:
        self.people, self.grants, self.letters = PeopleState(), GrantState(), Letters()
        self.control = ControlState()
        self.mailboxes = MailboxRule()
        self.audit = Audited()
        self.asked: list[Question] = []
        self.topic: Ready = Ready()
        self.releases = Releases(self)
        self.nylas = load(NylasSettings, LINKED)
        self._offset = 0

    def outcome(self, key: str, status: str, **further: Any) -> None:
        """Adds an outcome of a contact."""
        value = {"outcome": status, "kind": "updated", "version": BASE, "at_ms": 1, **further}
        record = KafkaRecord("o", key.encode(), orjson.dumps(value), [], 0, self._offset)
        self.people.take(record)
        self._offset += 1

    def grant(self, grant: str, kind: str, **fields: str) -> None:
        """Adds an event of a grant."""
        body = {"type": kind, "time": BASE, "id": "1", "data": {"object": fields}}
        record = KafkaRecord("g", grant.encode(), orjson.dumps(body), [], 0, self._offset)
        self.grants.take(record)
        self._offset += 1

    def decide(self, record: KafkaRecord) -> None:
        """Adds a record of contactstream.control."""
        self.control.take(record._replace(offset=self._offset))
        self._offset += 1

    def search(self, question: Question) -> FoundPerson:
        """Finds the same person whoever is asked about."""
        self.asked.append(question)
        entry = Entry(1_760_000_000_000, "outcome", "created", 7, {"id": "003A"}, "o[0]@1")
        contact = ContactAnswer(
            "g1/ada", "valid", "created", "Contact", "003A", True, "", (entry,), 0, ()
        )
        content = {"surname": "Lovelace", "emails": [{"email": "ada@acme.example"}]}
        return FoundPerson(Answer(question, (contact,)), {"g1/ada": content})

    def pages(self, shell: Shell) -> Sequence[Page]:
        """The four pages."""
        return [
            PeoplePage(shell, self.people, self.topic, ORG, self.releases),
            GrantsPage(
                shell,
                self.grants,
                self.people,
                self.control,
                [self.topic],
                self.audit,
                self.nylas,
                self.mailboxes,
            ),
            DeadLettersPage(
                shell, self.letters.state, self.people, [self.topic], self.letters, TOPICS
            ),
            PersonPage(shell, PersonSearch(self.search), self.audit, ORG),
        ]
