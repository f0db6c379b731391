"""The open letters that the console keeps are those that the command finds in the topic."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.dead_letters.open_letters import address_hash, scan
from streams.console.state.letters import LetterState, takes
from streams.dead_letters import dead_letter
from streams.events import Kind, change_headers
from streams.kafka.records import KafkaRecord
from streams.selection import Selection
from streams.settings import KafkaSettings, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))
NAMES = TOPICS.dead_letter.name
HEADERS = change_headers(Kind.UPDATED, 7, "f", "m", b"webhook", b"1")


def letter(place: int, reason: str) -> KafkaRecord:
    failed = KafkaRecord(TOPICS.changes.name, b"g%d/c" % (place % 2), b"{}", HEADERS, 0, place)
    return dead_letter(NAMES, failed, "sink", reason)


def closing(place: int) -> KafkaRecord:
    return KafkaRecord(NAMES, letter(place, "any").key, None, [])


RECORDS = st.lists(
    st.one_of(
        st.builds(letter, st.integers(0, 5), st.sampled_from(["too_large", "apex_error"])),
        st.builds(closing, st.integers(0, 5)),
        st.just(KafkaRecord(NAMES, b"of another program", b"x", [])),
        st.just(KafkaRecord(NAMES, None, b"x", [])),
    ),
    max_size=40,
)
SELECTIONS = st.sampled_from(
    [
        Selection(),
        Selection(reasons=("too_large",)),
        Selection(grants=("g1",)),
        Selection(keys=("g0/c",)),
        Selection(until_ms=1),
        Selection(kinds=("deleted",)),
    ]
)


def placed(records: list[KafkaRecord]) -> list[KafkaRecord]:
    return [each._replace(partition=0, offset=place) for place, each in enumerate(records)]


def taken(records: list[KafkaRecord], max_letters: int = 100) -> LetterState:
    state = LetterState(TOPICS, max_letters)
    for record in placed(records):
        state.take(record)
    return state


@given(RECORDS, SELECTIONS)
def test_they_are_those_of_the_command(records: list[KafkaRecord], selection: Selection) -> None:
    state, found = taken(records), scan(placed(records), selection, TOPICS)
    assert [each for each in state.all() if takes(selection, each)] == found.in_order
    assert state.unreadable == found.unreadable
    for each in found.in_order:
        assert state.get(each.letter_id) == each


@given(st.lists(st.sampled_from(["ada", "bob", "Ada", "no contact"]), max_size=9))
def test_an_address_selects_those_of_the_command(names: list[str]) -> None:
    records = []
    for place, name in enumerate(names):
        value = orjson.dumps(
            {"emails": [{"email": f"{name}@x.example"}, {"email": "all@x.example"}]}
        )
        if name == "no contact":
            value = b"cut off: ada@x.example"
        failed = KafkaRecord(TOPICS.changes.name, b"g/%d" % place, value, HEADERS, 0, place)
        records.append(dead_letter(NAMES, failed, "sink", "too_large"))
    state = taken(records)
    for address in ("ada@x.example", "all@x.example", "nobody@x.example"):
        found = scan(placed(records), Selection(addresses=(address,)), TOPICS).in_order
        assert [each for each in state.all() if each.has_address(address_hash(address))] == found


@given(RECORDS)
def test_the_backlog_is_their_number_by_reason_and_the_oldest(records: list[KafkaRecord]) -> None:
    state = taken(records)
    backlog, letters = state.backlog(), state.all()
    assert sum(backlog.by_reason.values()) == len(letters)
    assert backlog.oldest_ms == min((each.last_failed_ms for each in letters), default=None)


@pytest.mark.parametrize("letter_id", ["", "nothing", "contacts.changes/0/9/g/c"])
def test_an_unknown_id_names_no_letter(letter_id: str) -> None:
    assert taken([letter(0, "too_large")]).get(letter_id) is None
