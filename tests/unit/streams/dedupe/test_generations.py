"""Which generation of dedupe may work, and which one a switch takes the work from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dedupe.generations import (
    Generation,
    Handover,
    SwitchRefused,
    members_refusal,
    not_live,
    parse_handover,
    plan_switch,
    source_of,
)
from streams.dedupe.start_checks import end_if_handed_over
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, SettingsError, load
from streams.topics import generation_of, group, of_generation, topics
from tests.support.death import Died, die

AT = {0: 10, 1: 20}
FRESH = Generation(1, {})
LIVE = Generation(1, AT)
EMPTY = Generation(2, {})


def handed(number: int, to: int, switch: int) -> Generation:
    return Generation(number, AT, Handover(to, switch))


@given(st.integers(1, 99), st.integers(0, 10**8), st.sampled_from(["", "topic-id=abc "]))
def test_a_handover_is_read_from_the_metadata_that_carries_it(
    to: int, switch: int, before: str
) -> None:
    note = before + Handover(to, switch).words
    assert parse_handover(note) == parse_handover(note + "\0") == Handover(to, switch)


@pytest.mark.parametrize(
    "note", [None, "", "topic-id=handed-to=2", "topic-id=x\0", "handed-to=", "handed-to=two"]
)
def test_other_metadata_is_no_handover(note: str | None) -> None:
    assert parse_handover(note) is None


@given(st.text())
def test_no_metadata_breaks_the_reading(note: str) -> None:
    parse_handover(note)


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (FRESH, []),
        (FRESH, [EMPTY]),
        (LIVE, [EMPTY]),
        (Generation(2, AT), [handed(1, 2, 1)]),
    ],
    ids=["a new deployment", "with a prepared one", "the old one", "after the switch"],
)
def test_a_generation_works_where_it_is_the_live_one(
    own: Generation, others: list[Generation]
) -> None:
    assert not_live(own, others) is None


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        (EMPTY, [LIVE], "generation 2 has no offsets yet"),
        (EMPTY, [], "dedupe-state switch --to 2 --execute"),
        (handed(1, 2, 1), [Generation(2, AT)], "KAFKA_DEDUPE_GENERATION=2"),
        (handed(1, 2, 1), [EMPTY], "dedupe-state switch --to 1 --execute"),
        (FRESH, [Generation(2, AT)], "generation 1 has no offsets, and generation 2 has"),
        (FRESH, [handed(2, 1, 3)], "generation 1 has no offsets, and generation 2 has"),
    ],
    ids=["prepared", "alone", "switched", "switch under way", "forgotten", "forgotten meanwhile"],
)
def test_a_generation_that_is_not_the_live_one_does_not_work(
    own: Generation, others: list[Generation], said: str
) -> None:
    assert said in (not_live(own, others) or "")


def test_a_switch_marks_the_old_generation_and_counts_on() -> None:
    plan = plan_switch([LIVE, EMPTY], 2)
    assert (plan.source, plan.handover) == (LIVE, Handover(2, 1))
    back = plan_switch([handed(1, 2, 1), Generation(2, AT)], 1)
    assert (back.source.number, back.handover) == (2, Handover(1, 2))


def test_an_interrupted_switch_is_repeated_from_the_same_generation() -> None:
    # The way back was interrupted: both gave their work away, and the second has the newer table.
    between = [handed(1, 2, 1), handed(2, 1, 2)]
    assert source_of(between).number == 2
    assert plan_switch(between, 1).handover == Handover(1, 3)


def test_an_interrupted_switch_is_taken_back() -> None:
    plan = plan_switch([handed(1, 2, 1), EMPTY], 1)
    assert plan.takes_back
    assert (plan.source.number, plan.source.offsets) == (1, AT)


@pytest.mark.parametrize(
    ("generations", "target", "said"),
    [
        ([LIVE, EMPTY], 1, "is the live one already"),
        ([FRESH, EMPTY], 2, "contactstream dedupe"),
        ([LIVE, Generation(2, AT)], 2, "1 and 2 all have offsets"),
    ],
    ids=["live already", "nothing to go on from", "two that are live"],
)
def test_a_switch_without_one_live_generation_is_refused(
    generations: list[Generation], target: int, said: str
) -> None:
    with pytest.raises(SwitchRefused, match=said):
        plan_switch(generations, target)


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=8), st.data())
def test_through_any_switches_at_most_one_generation_works(
    targets: list[int], data: st.DataObject
) -> None:
    """Each switch is made in its three steps, and may be interrupted before any of them."""
    known = {1: Generation(1, AT), 2: Generation(2, {}), 3: Generation(3, {})}

    def working() -> list[int]:
        return [
            number
            for number, own in known.items()
            if not_live(own, [each for each in known.values() if each is not own]) is None
        ]

    newest = 1  # whose table is the newest
    for target in targets:
        try:
            plan = plan_switch(list(known.values()), target)
        except SwitchRefused:
            assert working() == [target]
            continue
        source = plan.source
        assert source.number == newest, "the work goes on from the newest table"
        assert set(working()) <= {source.number}
        steps = data.draw(st.integers(0, 2))
        if steps > 0:
            known[source.number] = Generation(source.number, AT, plan.handover)
            assert working() == ([target] if plan.takes_back else [])
        if steps > 1 and not plan.takes_back:
            known[target] = Generation(target, source.offsets)
            newest = target
            assert working() == [target]


def test_workers_in_a_group_keep_it_from_being_switched() -> None:
    assert members_refusal(1, "contactstream-dedupe", 0, leaves=True) is None
    refused = members_refusal(1, "contactstream-dedupe", 2, leaves=True) or ""
    assert "2 workers of generation 1 are in the group contactstream-dedupe. Stop them" in refused
    assert "DEDUPE_SESSION_TIMEOUT" in refused


def test_a_worker_that_joins_after_a_handover_ends_itself() -> None:
    end_if_handed_over(1, "topic-id=x\0", die)
    with pytest.raises(Died, match="KAFKA_DEDUPE_GENERATION=2") as died:
        end_if_handed_over(1, "topic-id=x handed-to=2 switch=1", die)
    assert died.value.args[0] is ExitCode.GENERATION_REPLACED


@pytest.mark.parametrize("prefix", ["", "eu."])
def test_a_generation_has_its_own_group_and_its_own_table(prefix: str) -> None:
    first = load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": prefix})
    second = load(KafkaSettings, {"KAFKA_TOPIC_PREFIX": prefix, "KAFKA_DEDUPE_GENERATION": "2"})
    assert of_generation(first, 2) == second
    assert group(first, "dedupe") == f"{prefix}contactstream-dedupe"
    assert group(second, "dedupe") == f"{prefix}contactstream-dedupe-2"
    assert group(first, "sink") == group(second, "sink")
    changed = [
        (old.name, new.name)
        for old, new in zip(topics(first).all(), topics(second).all(), strict=True)
        if old != new
    ]
    new = f"{prefix}contactstream-dedupe-2-seen-changelog"
    assert changed == [(f"{prefix}contactstream-dedupe-seen-changelog", new)]
    assert [generation_of(first, name) for pair in changed for name in pair] == [1, 2]
    assert generation_of(first, "other.contactstream-dedupe-3-seen-changelog") is None
    assert generation_of(first, f"{prefix}contacts.events") is None


@pytest.mark.parametrize("given_value", ["0", "100", "two"])
def test_a_generation_that_cannot_be_is_refused(given_value: str) -> None:
    with pytest.raises(SettingsError, match="KAFKA_DEDUPE_GENERATION"):
        load(KafkaSettings, {"KAFKA_DEDUPE_GENERATION": given_value})
