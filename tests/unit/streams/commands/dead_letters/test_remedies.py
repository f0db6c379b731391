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
    assert "Another version" not in remedy(reason)


def test_a_reason_of_another_version_says_so() -> None:
    assert "Another version" in remedy("something_new")
