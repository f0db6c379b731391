"""The mode of a plan: what was asked for, what is in force, or what counts without Kafka."""

import click
import pytest

from connectors.salesforce.write_mode import WriteMode
from streams.commands import plan_mode
from streams.commands.plan_mode import NOT_CHOSEN, mode_of_plan, without_kafka
from streams.control_mode import ModeInForce
from streams.settings import KafkaSettings, SalesforceSettings, load

KAFKA, ORG = load(KafkaSettings, {}), load(SalesforceSettings, {})


@pytest.fixture(autouse=True)
def _broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_mode, "_require_topics", lambda _: None)


def test_where_nobody_has_chosen_the_plan_is_that_of_mirror_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_mode, "current_mode", lambda *_: None)
    assert mode_of_plan(KAFKA, ORG, None) == ModeInForce(WriteMode.MIRROR, NOT_CHOSEN)


def test_the_mode_in_force_counts_unless_another_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_force = ModeInForce(WriteMode.CREATE_ONLY, "set by ada")
    monkeypatch.setattr(plan_mode, "current_mode", lambda *_: in_force)
    assert mode_of_plan(KAFKA, ORG, None) == in_force
    assert mode_of_plan(KAFKA, ORG, WriteMode.MIRROR) == ModeInForce(WriteMode.MIRROR, "--mode")


def test_a_topic_that_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: KafkaSettings) -> None:
        raise click.ClickException("no topic; see contactstream topics create")

    monkeypatch.setattr(plan_mode, "_require_topics", missing)
    found = mode_of_plan(KAFKA, ORG, None)
    assert found.mode is WriteMode.MIRROR
    assert "contactstream topics create" in found.origin


def test_without_kafka_the_setting_counts_and_without_a_setting_mirror() -> None:
    assert without_kafka("enrich-only", "refused").mode is WriteMode.ENRICH_ONLY
    found = without_kafka("", "refused")
    assert found.mode is WriteMode.MIRROR
    assert found.origin.startswith("SALESFORCE_MODE is not set, and Kafka cannot be read")
