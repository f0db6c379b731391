"""The limits of the sink: what is beyond them is held, and what is counted survives a takeover."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from connectors.salesforce.api.budget import Usage
from connectors.salesforce.outcome import Outcome, OutcomeStatus, ReplacedValue
from connectors.salesforce.write_mode import WriteMode
from connectors.salesforce.write_rules import IntendedWrite
from streams.control import ControlTable, Pause, PausedPart, pause_record
from streams.control_mode import ModeChange, mode_record
from streams.events import ContactChange, Kind, Origin
from streams.held import HeldRelease, release_record
from streams.kafka.records import KafkaRecord
from streams.metrics import SinkMetrics
from streams.sink.batching import PendingChange, PendingChanges
from streams.sink.spent import Spent, spent_until
from streams.sink.write_limits import (
    CREATIONS_BETWEEN_STORAGE,
    STORAGE_AGAIN_SECONDS,
    BatchRules,
    Limits,
    WriteLimits,
)
from tests.support.sink_harness import NAMES

DAY = 20_000 * 86_400.0
NOON = DAY + 12 * 3600


class Scene:
    """Limits with a clock and a control topic of the test."""

    def __init__(self, limits: Limits, spent: Spent | None = None) -> None:
        self.now = NOON
        self.table = ControlTable()
        self.limits = WriteLimits(self.table, limits=limits, clock=lambda: self.now)
        if spent is not None:
            self.limits.restore(spent)

    def batch(self, *rows: PendingChange) -> BatchRules:
        return self.limits.for_batch(rows)

    def create(self, *keys: str, origin: str = Origin.WEBHOOK, run: str = "") -> list[str]:
        """Why each of these contacts is held in one batch; those that are not are created."""
        rules = self.batch(*(row(key, origin, run) for key in keys))
        reasons = [rules.hold(IntendedWrite(key, creates=True, replaced=0)) for key in keys]
        rules.close()
        self.limits.count(
            Outcome(key, OutcomeStatus.CREATED)
            for key, reason in zip(keys, reasons, strict=True)
            if not reason
        )
        return reasons

    def replace(self, key: str, values: int, origin: str, **fields: Any) -> str:
        rules = self.batch(row(key, origin, **fields))
        reason = rules.hold(IntendedWrite(key, creates=False, replaced=values))
        rules.close()
        if not reason:
            replaced = tuple(ReplacedValue("Lead", "00Q", str(n), "a", "b") for n in range(values))
            self.limits.count([Outcome(key, OutcomeStatus.UPDATED, replaced=replaced)])
        return reason


def row(
    key: str, origin: str, run: str = "", restore: frozenset[str] = frozenset()
) -> PendingChange:
    change = ContactChange(key, Kind.UPDATED, 1, "", "", origin, 0, {}, restore)
    headers = [("replay.id", run.encode())] if run else []
    record = KafkaRecord(NAMES.changes.name, key.encode(), b"{}", [*headers])
    return PendingChange(change, record, frozenset(), 0.0)


def people(grant: str, number: int) -> list[str]:
    return [f"{grant}/{each}" for each in range(number)]


def test_creations_beyond_the_limit_of_the_day_are_held_until_the_next_day() -> None:
    scene = Scene(Limits(creations_per_day=3))
    assert scene.create("a/1", "b/1") == ["", ""]
    assert scene.create("a/2", "a/3") == ["", "creations_per_day"]
    scene.now = DAY + 86_400 - 1
    assert scene.create("a/3") == ["creations_per_day"]
    scene.now = DAY + 86_400
    assert scene.create("a/3") == [""]


def test_one_mailbox_beyond_its_limit_keeps_no_other_out() -> None:
    scene = Scene(Limits(creations_per_day=10, creations_per_grant=2))
    assert scene.create(*people("a", 3)) == ["", "", "creations_per_grant"]
    assert scene.create("b/1") == [""]


def test_zero_is_no_limit() -> None:
    assert set(Scene(Limits()).create(*people("a", 500))) == {""}


def test_batches_in_flight_share_a_limit_and_give_back_what_they_did_not_write() -> None:
    scene = Scene(Limits(creations_per_day=2))
    first, second = scene.batch(), scene.batch()
    wanted = [IntendedWrite(key, creates=True, replaced=0) for key in people("a", 3)]
    assert first.hold(wanted[0]) == ""
    assert first.hold(wanted[0]) == "", "the same row, tried again alone"
    assert second.hold(wanted[1]) == ""
    assert second.hold(wanted[2]) == "creations_per_day"
    first.close()  # the org refused the row
    assert scene.batch().hold(wanted[2]) == ""


def test_values_beyond_the_limit_of_the_hour_hold_bulk_runs_and_never_live_changes() -> None:
    scene = Scene(Limits(replaced_per_hour=5))
    assert scene.replace("a/1", 5, Origin.WEBHOOK) == ""
    assert scene.replace("a/2", 1, Origin.RECONCILE) == "replaced_values_per_hour"
    assert scene.replace("a/3", 9, Origin.WEBHOOK) == ""
    assert scene.replace("a/4", 0, Origin.BACKFILL) == "", "it only fills blanks"
    scene.now += 3600
    assert scene.replace("a/2", 1, Origin.RECONCILE) == ""


def test_a_restore_that_a_person_asked_for_is_not_held() -> None:
    scene = Scene(Limits(replaced_per_hour=1))
    scene.replace("a/1", 1, Origin.WEBHOOK)
    restored = scene.replace("a/2", 3, Origin.REPLAY, restore=frozenset({"Title"}))
    assert restored == ""


def test_what_a_person_released_is_written_beyond_the_limit_and_other_replays_are_not() -> None:
    scene = Scene(Limits(creations_per_day=1))
    scene.create("a/1")
    scene.table.apply(release_record(NAMES, HeldRelease("run-1", "ada", "checked", 1)))
    assert scene.create("a/2", origin=Origin.REPLAY, run="run-1") == [""]
    assert scene.create("a/3", origin=Origin.REPLAY, run="run-2") == ["creations_per_day"]
    scene.table.apply(KafkaRecord(NAMES.control.name, b"held-release/run-1", None, []))
    assert scene.create("a/3", origin=Origin.REPLAY, run="run-1") == ["creations_per_day"]


def test_paused_creations_are_held_also_released_ones_and_updates_go_on() -> None:
    scene = Scene(Limits())
    now_ms = int(NOON * 1000)
    asked = Pause(PausedPart.CREATIONS, "ada", "a migration", now_ms, now_ms + 60_000)
    scene.table.apply(pause_record(NAMES, asked))
    scene.table.apply(release_record(NAMES, HeldRelease("run-1", "ada", "checked", 1)))
    assert scene.create("a/1") == ["creations_paused"]
    assert scene.create("a/2", origin=Origin.REPLAY, run="run-1") == ["creations_paused"]
    assert scene.replace("a/3", 2, Origin.WEBHOOK) == ""
    scene.now += 60
    assert scene.create("a/1") == [""]


def test_a_batch_keeps_the_mode_at_its_start_and_the_next_one_has_the_new_one() -> None:
    scene = Scene(Limits())
    before = scene.batch()
    scene.table.apply(mode_record(NAMES, ModeChange(WriteMode.REPORT_ONLY, "ada", "stop", 1)))
    assert (before.mode, scene.batch().mode) == (WriteMode.MIRROR, WriteMode.REPORT_ONLY)


def outcome(key: str, status: str, at: float, **fields: Any) -> KafkaRecord:
    value = {"outcome": status, "at_ms": int(at * 1000)} | fields
    return KafkaRecord(NAMES.outcomes.name, key.encode(), json.dumps(value).encode(), [])


def test_a_successor_counts_what_its_predecessor_wrote_that_day_and_that_hour() -> None:
    records = [
        outcome("a/1", "created", DAY - 1),
        outcome("a/2", "created", DAY + 60),
        outcome("a/2", "updated", NOON - 7200, replaced=50),
        outcome("b/1", "created", NOON),
        outcome("b/1", "updated", NOON + 60, replaced=2),
        outcome("b/2", "held", NOON, reason="creations_per_day"),
        KafkaRecord(NAMES.outcomes.name, b"b/3", None, []),
        KafkaRecord(NAMES.outcomes.name, b"b/4", b"no outcome", []),
    ]
    spent = spent_until(NOON + 120, records)
    assert (spent.creations, spent.of_grant, spent.replaced) == (2, {"a": 1, "b": 1}, 2)
    scene = Scene(Limits(creations_per_day=3, replaced_per_hour=2), spent)
    scene.now = NOON + 120
    assert scene.create("c/1", "c/2") == ["", "creations_per_day"]
    assert scene.replace("c/3", 1, Origin.BACKFILL) == "replaced_values_per_hour"


@pytest.mark.parametrize("back", [1.0, 3600.0, 86_400.0])
def test_a_clock_that_goes_back_gives_nothing_back(back: float) -> None:
    scene = Scene(Limits(creations_per_day=1))
    scene.create("a/1")
    scene.now -= back
    assert scene.create("a/2") == ["creations_per_day"]


def test_the_storage_is_asked_for_after_many_creations_and_holds_creations_while_it_is_used() -> (
    None
):
    scene = Scene(Limits(storage_share=0.9))
    assert not scene.limits.storage_is_due(), "a small first sync costs no call"
    scene.create(*people("a", CREATIONS_BETWEEN_STORAGE))
    assert scene.limits.storage_is_due()
    assert not scene.limits.storage_is_due(), "one batch asks, and the others go on"
    scene.limits.take_storage(Usage(89, 100))
    assert scene.create("b/1") == [""]
    scene.limits.take_storage(Usage(90, 100))
    assert scene.create("b/2") == ["data_storage"]
    assert scene.replace("b/3", 2, Origin.WEBHOOK) == "", "existing records follow on"
    assert not scene.limits.storage_is_due()
    scene.now += STORAGE_AGAIN_SECONDS
    assert scene.limits.storage_is_due(), "somebody may have made room"
    scene.limits.take_storage(Usage(50, 100))
    assert scene.create("b/2") == [""]


def test_a_successor_asks_for_the_storage_after_what_its_predecessor_created() -> None:
    spent = Spent(day=int(NOON) // 86_400, creations=CREATIONS_BETWEEN_STORAGE)
    assert Scene(Limits(storage_share=0.9), spent).limits.storage_is_due()


def test_where_the_storage_may_not_be_seen_nobody_is_held() -> None:
    scene = Scene(Limits(storage_share=0.9))
    scene.create(*people("a", CREATIONS_BETWEEN_STORAGE))
    scene.limits.take_storage(None)
    assert scene.create("b/1") == [""]


def test_the_metrics_say_how_much_of_each_limit_is_used_and_which_mode_counts() -> None:
    scene, registry = Scene(Limits(10, 0, 7, 0.9)), CollectorRegistry()
    scene.create("a/1", "a/2")
    scene.replace("a/3", 3, Origin.WEBHOOK)
    scene.limits.take_storage(Usage(45, 90))
    scene.limits.report(SinkMetrics(registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"contactstream_sink_{name}", labels)

    assert (value("limit", limit="creations_per_day"), value("limit", limit="calls_per_day")) == (
        10,
        0,
    )
    assert value("limit_used", limit="creations_per_day") == 2
    assert value("limit_used", limit="replaced_values_per_hour") == 3
    assert value("limit_used", limit="data_storage") == 0.5
    assert (value("mode", mode="mirror"), value("mode", mode="report-only")) == (1, 0)


def test_changes_of_bulk_runs_wait_and_live_ones_go_while_our_calls_run_short() -> None:
    pending = PendingChanges()
    pending.add(row("a/bulk", Origin.BACKFILL))
    pending.add(row("a/live", Origin.WEBHOOK))
    pending.defer_bulk(60.0)
    assert [each.key for each in pending.next_batch((), 1.0, 10)] == ["a/live"]
    assert [each.key for each in pending.next_batch((), 61.0, 10)] == ["a/bulk"]
