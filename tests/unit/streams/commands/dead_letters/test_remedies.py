"""Every reason of a dead letter has a remedy."""

import pytest

from connectors.nylas.errors import UNREADABLE
from connectors.salesforce.api.classification import LONE_ROW_REASONS, ROW_REASONS
from streams.commands.dead_letters.remedies import REASONS, remedy
from streams.metrics import DEDUPE_UNREADABLE
from streams.sink.outcomes import EXHAUSTED

WRITTEN = {
    *ROW_REASONS,
    *(f"{EXHAUSTED}{reason}" for reason in ROW_REASONS),
    *LONE_ROW_REASONS,
    *UNREADABLE,
    *DEDUPE_UNREADABLE,
    "not_a_change",
    "unsupported_encoding",
    "refused_by_broker",
    "refused",
    "no_content",
}
"""Every reason that a stage gives a dead letter."""


def test_the_closed_set_of_reasons_is_what_the_stages_write() -> None:
    assert set() == WRITTEN - REASONS


@pytest.mark.parametrize("reason", sorted(WRITTEN))
def test_a_reason_has_a_remedy(reason: str) -> None:
    stages = ("sink",) if reason in LONE_ROW_REASONS else ("sink", "bridge")
    assert not [stage for stage in stages if "Another version" in remedy(reason, stage)]


def test_a_word_of_two_stages_has_a_remedy_for_each() -> None:
    assert "No stage could read it" in remedy("not_json", "bridge")
    assert "while others passed" in remedy("not_json", "sink")


def test_a_reason_of_another_version_says_so() -> None:
    assert "Another version" in remedy("something_new", "sink")
