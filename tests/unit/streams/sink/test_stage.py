"""The sink's own logic, without a broker: its fence, its retries, and its records on each topic."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.salesforce.api.budget import PROBE_SECONDS, RECENT_SECONDS, Budget
from connectors.salesforce.api.classification import possible_row_fault
from connectors.salesforce.api.client import Fence
from connectors.salesforce.api.error_parsing import parse_errors
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    RowError,
    UnexpectedAnswer,
    Verdict,
)
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.record_locks import ACCOUNT_WAIT_SECONDS
from connectors.salesforce.schema import OrgNotPrepared
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.sink.batching import PendingChange
from streams.sink.circuit_breaker import RETRY_AFTER_LONGEST_SECONDS
from streams.sink.consumer import POLL_RECORDS
from streams.sink.retry_policy import DEAD_LETTER_MOST, LONE_FAILURES, RETRY_ATTEMPTS
from streams.sink.stage import STOP_SECONDS
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import SinkHarness, running_sink


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Tracebacks as a console shows them would be most of a test's time."""
    with capture_logs():
        yield


def person(name: str, **fields: Any) -> dict[str, Any]:
    return {"surname": name, "emails": [{"email": f"{name}@{name}.example"}], **fields}


@asynccontextmanager
async def sink_and_org(
    document: dict[str, Any] | None = None, budget: Budget | None = None, **settings: Any
) -> AsyncIterator[tuple[SinkHarness, SimulatedOrg]]:
    """A sink that writes to the simulated org."""
    async with (
        simulated_org(document, budget=budget) as org,
        running_sink(org.sync, **settings) as sink,
    ):
        yield sink, org


@pytest.mark.parametrize("how", ["lose", "revoke"])
async def test_a_batch_whose_partition_is_gone_sends_nothing_more(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.sink.rebalance.REVOKE_SECONDS", 0.1)  # shorter than the org takes
    async with sink_and_org() as (sink, org):
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        calls = org.calls.copy()
        # The write takes long, and its answer asks for smaller writes: the next Composite would
        # come after a successor's.
        org.fault("delay_after", seconds=1.0)
        org.fault("rows", code="QUERY_TIMEOUT", times=None)
        for name in ("bob", "cleo", "dora"):
            sink.offer(f"g/{name}", 1, person(name))
        await sink.until(lambda: org.world.faults.met["rows"] >= 3, "the write is under way")
        sink.consumer.between_polls.append(getattr(sink.consumer, how))
        await sink.until(lambda: not sink.consumer.between_polls, "the partition is gone")
        await sink.until(lambda: not sink.sink.in_flight, "the batch has ended")
        assert org.calls["composite_write"] == calls["composite_write"] + 1
        assert org.calls["composite_query"] == calls["composite_query"] + 1
        assert sink.committed == 1
        assert sink.outcomes().keys() == {"g/ada"}


async def test_a_partition_that_comes_back_is_processed_again() -> None:
    async with sink_and_org() as (sink, org):
        org.fault("delay_after", seconds=0.5)
        org.fault("rows", code="QUERY_TIMEOUT", times=1)
        sink.offer("g/ada", 1, person("ada"))
        sink.offer("g/bob", 1, person("bob"))
        await sink.until(lambda: org.world.faults.met["rows"] >= 2, "the write is under way")
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until_committed()
        assert {one["outcome"] for one in sink.outcomes().values()} == {"created"}
        assert len(org.people()) == 2


class PlainOrg:
    """A stand-in for Sync that creates each contact at once.

    A batch with a contact of `broken` raises its exception. `outages` are batches that all fail.
    """

    def __init__(self) -> None:
        self.broken: dict[str, Exception] = {}
        self.all_broken: Exception | None = None
        # from this batch on, for so many batches: what all of them raise
        self.outages: list[tuple[int, int, Exception]] = []
        self.batches: list[list[str]] = []
        self.stored: dict[str, int] = {}
        self.outcomes: dict[str, list[Outcome]] = {}
        self.claims_fail = ""
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, change: ContactVersion) -> frozenset[str]:
        if change.key == self.claims_fail:
            raise LookupError(change.key)
        return frozenset((change.key,))

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        fence()
        self.batches.append([change.key for change in changes])
        await asyncio.sleep(0)
        if self.all_broken is not None:
            raise self.all_broken
        for after, length, error in self.outages:
            if after <= len(self.batches) < after + length:
                raise error
        for change in changes:
            if change.key in self.broken:
                raise self.broken[change.key]
        self.stored |= {change.key: change.version for change in changes}
        return [self._outcome(change.key) for change in changes]

    def _outcome(self, key: str) -> Outcome:
        scripted = self.outcomes.get(key)
        return scripted.pop(0) if scripted else Outcome(key, OutcomeStatus.CREATED, "Lead", "00Q1")


def server_error() -> OrgUnavailable:
    return OrgUnavailable("server_error", 10.0, "HTTP 500")


UNREADABLE = Verdict(Action.BISECT, "unknown_code")
POISONS = [
    server_error(),
    OrgUnavailable("network", 5.0, "TimeoutError"),
    UnexpectedAnswer("1 results for 2 rows"),
    RequestRejected(400, (), UNREADABLE),
    RequestRejected(413, (), Verdict(Action.HALVE, "too_large")),
    RequestRejected(400, (), Verdict(Action.STOP, "malformed_query")),
    RecursionError("nobody foresaw this"),
]


@pytest.mark.parametrize("poison", POISONS, ids=lambda error: possible_row_fault(error))
async def test_a_contact_that_breaks_every_call_is_found_and_dead_lettered_beside_others_that_pass(
    poison: Exception,
) -> None:
    org = PlainOrg()
    org.broken["g/poison"] = poison
    async with running_sink(org, batch_size=8) as sink:
        for number in range(8):
            sink.offer("g/poison" if number == 5 else f"g/{number}", 1, person(f"p{number}"))
        await sink.until(lambda: len(org.batches) > 12, "it was tried", skip=5)
        sink.offer("g/other", 1, person("other"))
        await sink.until_committed(skip=5)
        (letter,) = sink.dead_letters()
        assert letter.key == b"g/poison"
        headers = dict(letter.headers)
        assert headers["dlq.reason"] == possible_row_fault(poison).encode()
        assert b"beside others that pass" in (headers["dlq.detail"] or b"")
        assert sink.outcomes()["g/poison"]["outcome"] == "failed"
        assert len(org.stored) == 8
        assert sink.health.waiting_for == ""
        assert sum(len(batch) == 1 for batch in org.batches) >= LONE_FAILURES


async def test_a_contact_alone_is_not_dead_lettered_before_others_are_written() -> None:
    org = PlainOrg()
    org.broken["g/poison"] = server_error()
    async with running_sink(org) as sink:
        sink.offer("g/poison", 1, person("poison"))
        await sink.until(
            lambda: len(org.batches) > 3 * LONE_FAILURES, "it was tried often", skip=30
        )
        assert sink.dead_letters() == []
        assert sink.health.waiting_for == "salesforce: server_error"
        sink.offer("g/other", 1, person("other"))
        await sink.until_committed(skip=30)
        assert [letter.key for letter in sink.dead_letters()] == [b"g/poison"]
        assert org.stored == {"g/other": 1}


async def test_a_contact_that_fails_again_and_again_takes_no_allowance_of_live_changes() -> None:
    """One allowance comes back each day; the contact is tried at each step of the clock."""
    org = PlainOrg()
    org.broken["g/poison"] = server_error()
    async with running_sink(org, live_call_share=1e-9) as sink:
        sink.offer("g/poison", 1, person("poison"))
        await sink.until(lambda: len(org.batches) > LONE_FAILURES, "it was tried often", skip=3600)
        sink.offer("g/other", 1, person("other"))
        await sink.until(lambda: "g/other" in org.stored, "the other is written", skip=3600)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [*POISONS, OrgUnavailable("daily_limit", 300.0), OrgNotPrepared("no key field")],
    ids=lambda e: repr(e)[:40],
)
async def test_a_fault_of_the_whole_org_pauses_without_end_and_never_dead_letters(
    fault: Exception,
) -> None:
    org = PlainOrg()
    org.all_broken = fault
    async with running_sink(org, batch_size=8) as sink:
        for number in range(24):
            sink.offer(f"g/{number}", 1, person(f"p{number}"))
        await sink.until(lambda: len(org.batches) > 150, "it was tried often", skip=60)
        assert sink.health.waiting_for
        assert (sink.dead_letters(), sink.committed) == ([], 0)
        org.all_broken = None
        await sink.until_committed(skip=60)
        assert sink.dead_letters() == []
        assert len(org.stored) == 24


async def test_probes_of_an_org_keep_their_pace_however_often_one_contact_was_probed_with() -> None:
    org = PlainOrg()
    org.all_broken = OrgUnavailable("maintenance", 1.0)
    async with running_sink(org) as sink:

        async def probed(times: int) -> None:
            await sink.until(
                lambda: len(org.batches) >= times and not sink.sink.in_flight, "a probe"
            )

        sink.offer("g/ada", 1, person("ada"))
        for number in range(1, 15):
            await probed(number)
            sink.skip(1.5)
        assert sink.dead_letters() == []


@pytest.mark.parametrize(
    "fault", [OrgUnavailable("daily_limit", 1.0), OrgNotPrepared("no key field")], ids=repr
)
async def test_a_fault_that_no_contact_can_cause_never_dead_letters_one(fault: Exception) -> None:
    org = PlainOrg()
    org.broken["g/0"] = fault
    async with running_sink(org, batch_size=1, in_flight=1) as sink:
        for number in range(4):
            sink.offer(f"g/{number}", 1, person(f"p{number}"))
        await sink.until(lambda: len(org.batches) > 40, "it was tried often", skip=60)
        assert sink.dead_letters() == []


async def test_no_more_than_a_few_contacts_are_dead_lettered_though_others_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault of all Leads and no Contact, say, is a fault of the org."""
    # the test's clock runs fast
    monkeypatch.setattr("streams.sink.retry_policy.DEAD_LETTER_SECONDS", 1e9)
    org = PlainOrg()
    org.broken = {f"g/{number}": server_error() for number in range(DEAD_LETTER_MOST + 5)}
    async with running_sink(org, batch_size=20) as sink:
        for key in org.broken:
            sink.offer(key, 1, person("p"))

        async def one_passes(number: int) -> None:
            sink.offer(f"g/good{number}", 1, person("p"))
            await sink.until(lambda: f"g/good{number}" in org.stored, "others pass", skip=20)

        number = 0
        while len(sink.dead_letters()) < DEAD_LETTER_MOST:
            number += 1
            assert number < 1000, "nobody is dead-lettered"
            await one_passes(number)
        tried = len(org.batches)
        while len(org.batches) < tried + 100:
            number += 1
            await one_passes(number)
        assert len(sink.dead_letters()) == DEAD_LETTER_MOST
        org.broken = {}
        await sink.until_committed(skip=20)
        assert len(sink.dead_letters()) == DEAD_LETTER_MOST


async def test_a_fault_of_a_part_of_the_org_costs_few_calls_however_many_contacts_it_hits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them tried once a minute would spend the daily calls."""
    monkeypatch.setattr("streams.sink.retry_policy.DEAD_LETTER_SECONDS", 1e9)
    org = PlainOrg()
    org.broken = {f"g/lead{number}": server_error() for number in range(DEAD_LETTER_MOST + 10)}
    async with running_sink(org, batch_size=20) as sink:
        for key in org.broken:
            sink.offer(key, 1, person("p"))

        async def others_pass(*, skip: float = 0.1) -> None:
            key = f"g/good{len(org.batches)}"
            sink.offer(key, 1, person("p"))
            await sink.until(lambda: key in org.stored, "others pass", skip=skip)

        async def pass_seconds(count: int) -> None:
            ends = sink.skipped[0] + count
            while sink.skipped[0] < ends:
                await others_pass()
                sink.skip(20)

        def tries() -> int:
            return sum(not org.broken.keys().isdisjoint(batch) for batch in org.batches)

        while len(sink.dead_letters()) < DEAD_LETTER_MOST:
            await others_pass(skip=20)
        await pass_seconds(120)
        tried = tries()
        await pass_seconds(1200)
        assert 12 <= tries() - tried <= 21, "one a minute"
        org.broken = {}
        await pass_seconds(180)
        await sink.until_committed()
        assert len(sink.dead_letters()) == DEAD_LETTER_MOST


async def test_a_contact_whose_claims_cannot_be_computed_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its key and its addresses are claimed all the same."""
    org = PlainOrg()
    org.claims_fail = "g/odd"
    async with running_sink(org) as sink:
        claims: list[frozenset[str]] = []

        def noted(rows: Sequence[PendingChange]) -> set[str]:
            claims.extend(row.claims for row in rows)
            return set()

        monkeypatch.setattr("streams.sink.stage.claims_of", noted)
        sink.offer("g/odd", 1, person("odd"))
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        assert len(org.stored) == 2
        assert {"g/odd", "odd@odd.example"} in claims


class UnreadOrg(PlainOrg):
    """Knows the Accounts once it was read, for which the first attempt fails."""

    ACCOUNTS: ClassVar = {"g/1": "acme", "g/2": "globex", "g/3": "globex", "g/4": "acme"}

    def __init__(self) -> None:
        super().__init__()
        self.is_started = False
        self.attempts = 0

    async def start(self, fence: Fence) -> None:
        fence()
        self.attempts += 1
        if self.attempts == 1:
            raise server_error()
        self.is_started = True

    def claims(self, change: ContactVersion) -> frozenset[str]:
        known = (self.ACCOUNTS[change.key],) if self.is_started else ()
        return frozenset((change.key, *known))


async def test_changes_that_came_before_the_org_was_read_go_by_account_too() -> None:
    """A sink that starts with a backlog takes it in before its first call of the org."""
    org = UnreadOrg()
    async with running_sink(org, batch_size=2) as sink:
        for key in org.ACCOUNTS:
            sink.offer(key, 1, person("p"))
        await sink.until(lambda: "salesforce" in sink.health.waiting_for, "the org is away")
        assert sink.health.waiting_for == "salesforce: server_error"
        assert org.batches == []
        await sink.until_committed(skip=5)
        assert sink.health.waiting_for == ""
    assert [sorted(batch) for batch in org.batches] == [["g/1", "g/4"], ["g/2", "g/3"]]
    assert org.attempts == 2


async def test_the_org_is_read_while_the_first_changes_gather_to_a_batch() -> None:
    org = UnreadOrg()
    async with running_sink(org, bulk_linger=3600) as sink:
        sink.offer("g/1", 1, person("p"), b"backfill")
        await sink.until(lambda: org.is_started, "the org is read", skip=5)
        await sink.until_polled(2)
        assert org.batches == []
        sink.skip(3600)
        await sink.until_committed()


async def test_several_batches_are_in_flight_at_once_and_never_two_with_one_person() -> None:
    org = PlainOrg()
    in_flight: list[set[str]] = []
    most = 0
    go_on = asyncio.Event()
    answer = org.sync

    async def slow(
        changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        nonlocal most
        people = {one["email"] for change in changes for one in (change.contact or {})["emails"]}
        assert not any(people & others for others in in_flight)
        in_flight.append(people)
        most = max(most, len(in_flight))
        await go_on.wait()
        in_flight.remove(people)
        return await answer(changes, fence, _rules)

    org.sync = slow  # type: ignore[method-assign]
    org.claims = lambda change: frozenset(one["email"] for one in (change.contact or {})["emails"])  # type: ignore[method-assign]
    async with running_sink(org, batch_size=1, in_flight=3) as sink:
        for number in range(12):  # each person in two address books
            sink.offer(f"g{number % 2}/{number // 2}", 1, person(f"p{number // 2}"))
        await sink.until(lambda: most == 3, "three batches are in flight")
        await sink.until_polled(20)  # a fourth could have started
        assert most == 3
        go_on.set()
        await sink.until_committed()
        assert len(org.stored) == 12
        assert most == 3


def retry(key: str, reason: str, code: str = "", message: str = "") -> Outcome:
    return Outcome(
        key, OutcomeStatus.RETRY, reason=reason, errors=(RowError(code or reason.upper(), message),)
    )


def reasons(sink: SinkHarness) -> list[tuple[bytes | None, Any, Any]]:
    found = []
    for letter in sink.dead_letters():
        headers = dict(letter.headers)
        found.append((letter.key, headers["dlq.reason"], headers["dlq.attempts"]))
    return found


@pytest.mark.slow
async def test_a_lock_is_retried_for_minutes_and_then_dead_lettered_as_such() -> None:
    org = PlainOrg()
    org.outcomes["g/ada"] = [retry("g/ada", "unable_to_lock_row") for _ in range(100)]
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        sink.offer("g/bob", 1, person("bob"))
        await sink.until(lambda: "g/bob" in sink.outcomes(), "the lock is beside the flow")
        await sink.until_committed(skip=0.5)
        ((key, reason, attempts),) = reasons(sink)
        assert (key, reason) == (b"g/ada", b"retries_exhausted_unable_to_lock_row")
        assert int(attempts) >= RETRY_ATTEMPTS
        failed = sink.outcomes()["g/ada"]
        assert (failed["outcome"], failed["reason"]) == (
            "failed",
            "retries_exhausted_unable_to_lock_row",
        )


async def test_the_time_that_the_org_is_away_is_no_attempt() -> None:
    org = PlainOrg()
    org.outcomes["g/ada"] = [
        retry("g/ada", "unable_to_lock_row") for _ in range(RETRY_ATTEMPTS - 2)
    ]
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        await sink.until(lambda: len(org.batches) == 1, "one attempt")
        org.all_broken = OrgUnavailable("daily_limit", 1.0)

        async def probed() -> None:
            tried = len(org.batches)
            await sink.until(lambda: len(org.batches) > tried, "a probe", skip=1)

        for _ in range(30):
            sink.skip(60)  # half an hour
            await probed()
        org.all_broken = None
        await sink.until_committed(skip=5)
        assert sink.dead_letters() == []
        assert sink.outcomes()["g/ada"]["outcome"] == "created"


async def test_a_partition_that_comes_back_while_the_org_is_away_is_worked_off_later() -> None:
    org = PlainOrg()
    org.all_broken = OrgUnavailable("network", 1.0)
    async with running_sink(org) as sink:
        for number in range(POLL_RECORDS + 500):  # a sink that is away reads no second poll
            sink.offer(f"g/{number}", 1, person(f"p{number}"))
        await sink.until(lambda: len(org.batches) >= 2, "it finds the org away", skip=1)
        sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
        await sink.until_polled(5)
        org.all_broken = None
        await sink.until_committed(skip=1)
        assert len(sink.outcomes()) == POLL_RECORDS + 500


async def test_a_value_that_a_hidden_record_holds_is_dead_lettered_at_the_second_refusal() -> None:
    org = PlainOrg()
    message = (
        "duplicate value found: Nylas_Contact_Id__c duplicates value on record with id: "
        "0031x00000AbCdE"
    )
    error = parse_errors([{"statusCode": "DUPLICATE_VALUE", "message": message, "fields": []}])
    org.outcomes["g/ada"] = [
        Outcome("g/ada", OutcomeStatus.RETRY, reason="duplicate_value", errors=error)
        for _ in range(9)
    ]
    org.outcomes["g/bob"] = [retry("g/bob", "duplicate_value")]  # lost a race
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        sink.offer("g/bob", 1, person("bob"))
        await sink.until_committed(skip=0.5)
        assert reasons(sink) == [(b"g/ada", b"retries_exhausted_duplicate_value", b"2")]
        headers = dict(sink.dead_letters()[0].headers)
        assert b"sharing hides" in headers["dlq.detail"]  # type: ignore[operator]
        assert headers["dlq.duplicates"] == b"0031x00000AbCdE"
        assert sink.outcomes()["g/bob"]["outcome"] == "created"


async def test_a_locked_record_holds_the_commit_for_seconds() -> None:
    org = PlainOrg()
    org.outcomes["g/ada"] = [retry("g/ada", "entity_is_locked") for _ in range(99)]
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed(skip=0.5)
        assert reasons(sink) == [(b"g/ada", b"retries_exhausted_entity_is_locked", b"4")]


async def test_a_blocked_duplicate_is_dead_lettered_with_the_ids_of_the_matches() -> None:
    rule = {"name": "B", "sobject": "Lead", "match_on": ["LastName"], "action": "Block"}
    leads = [
        {"LastName": "Lovelace", "Company": "x", "Email": f"other{n}@else.example"}
        for n in range(2)
    ]
    async with sink_and_org({"duplicate_rules": [rule], "leads": leads}) as (sink, org):
        sink.offer("g/ada", 1, {"surname": "Lovelace", "emails": [{"email": "ada@acme.example"}]})
        await sink.until_committed()
        (letter,) = sink.dead_letters()
        headers = dict(letter.headers)
        assert headers["dlq.reason"] == b"duplicates_detected"
        ids = (headers["dlq.duplicates"] or b"").decode().split()  # type: ignore[union-attr]
        assert sorted(ids) == sorted(lead["Id"] for lead in org.records("Lead"))
        assert sink.outcomes()["g/ada"]["outcome"] == "failed"


async def test_a_failure_is_the_contacts_last_outcome_until_it_succeeds() -> None:
    org = PlainOrg()
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        org.outcomes["g/ada"] = [Outcome("g/ada", OutcomeStatus.FAILED, reason="string_too_long")]
        sink.publisher.refuse = 2
        sink.offer("g/ada", 2, person("ada"))
        await sink.until_committed()
        failed = sink.outcomes()["g/ada"]
        assert (failed["outcome"], failed["reason"], failed["version"]) == (
            "failed",
            "string_too_long",
            2,
        )
        assert len(sink.dead_letters()) == 1
        sink.offer("g/ada", 3, person("ada"))
        await sink.until_committed()
        assert sink.outcomes()["g/ada"]["outcome"] == "created"


def test_a_batch_that_waits_for_an_account_ends_within_a_stop() -> None:
    assert ACCOUNT_WAIT_SECONDS < STOP_SECONDS


async def test_only_a_call_that_was_answered_ends_the_pause() -> None:
    async with sink_and_org() as (sink, org):
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        org.world.faults.queue.append(
            parse_fault({"effect": "status", "status": 503, "times": None})
        )
        sink.offer("g/bob", 1, person("bob"))
        await sink.until(lambda: sink.health.waiting_for, "the sink waits for the org")
        sink.offer(
            "g/no-reply", 1, {"surname": "x", "emails": [{"email": "no-reply@acme.example"}]}
        )  # costs no call
        await sink.until(
            lambda: sink.metrics.skipped.labels("role_address")._value.get() >= 1,
            "it is left out",
            skip=1,
        )
        assert sink.health.waiting_for == "salesforce: maintenance"
        org.world.faults.clear()
        await sink.until_committed(skip=1)
        assert sink.health.waiting_for == ""


async def test_the_sink_pauses_at_the_reserve_of_calls_and_resumes_by_itself() -> None:
    now = [0.0]
    budget = Budget(0.1, clock=lambda: now[0])
    async with sink_and_org({"settings": {"daily_limit": 1000, "daily_used": 0}}, budget) as (
        sink,
        org,
    ):
        sink.offer("g/ada", 1, person("ada"))
        await sink.until_committed()
        org.world.change_settings({"daily_used": 900})
        sink.offer("g/bob", 1, person("bob"))  # its query shows that only the reserve is left
        await sink.until(lambda: sink.health.waiting_for, "the sink waits")
        assert sink.health.waiting_for == "salesforce: budget"
        calls = org.calls.total()
        for _ in range(10):
            sink.skip(20)
            await sink.until_polled()
        assert org.calls.total() == calls
        org.world.change_settings({"daily_used": 0})
        now[0] += PROBE_SECONDS + RECENT_SECONDS
        await sink.until_committed(skip=20)
        assert sink.health.waiting_for == ""
        assert sink.dead_letters() == []
        assert len(org.people()) == 2


@pytest.mark.parametrize(
    ("asked", "waits"), [(400.0, 400.0), (5000.0, RETRY_AFTER_LONGEST_SECONDS)]
)
async def test_an_org_that_asks_for_a_long_wait_gets_it_within_a_bound(
    asked: float, waits: float
) -> None:
    org = PlainOrg()
    org.all_broken = OrgUnavailable("throttled", asked)
    async with running_sink(org) as sink:
        sink.offer("g/ada", 1, person("ada"))
        await sink.until(lambda: org.batches and not sink.sink.in_flight, "the sink waits")
        sink.skip(waits - 60)  # a minute for a test that stands still
        await sink.until_polled(5)
        assert len(org.batches) == 1
        org.all_broken = None
        sink.skip(61)
        await sink.until_committed()


@settings(max_examples=12, derandomize=True)
@given(
    count=st.integers(2, 40),
    size=st.integers(1, 16),
    poisons=st.dictionaries(st.integers(0, 39), st.sampled_from(POISONS[:6]), max_size=3),
    outages=st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 12), st.sampled_from(POISONS[:4])), max_size=3
    ),
)
def test_only_contacts_that_break_their_calls_are_dead_lettered_whatever_fails(
    count: int, size: int, poisons: dict[int, Exception], outages: list[tuple[int, int, Exception]]
) -> None:
    org = PlainOrg()
    org.broken = {f"g/{number}": error for number, error in poisons.items() if number < count}
    org.outages = outages

    async def story() -> None:
        async with running_sink(org, batch_size=size) as sink:
            for number in range(count):
                sink.offer(f"g/{number}", 1, person(f"p{number}"))
            await sink.until(
                lambda: len(org.stored) == count - len(org.broken),
                "the others are written",
                skip=20,
            )

            async def another_is_written(key: str) -> None:
                sink.offer(key, 1, person("later"))
                await sink.until(lambda: key in org.stored, "another is written", skip=20)

            number = 0
            while sink.committed < len(sink.consumer.log):
                # other contacts are written beside those that are suspected
                number += 1
                await another_is_written(f"g/later{number}")
                assert number < 500
            assert {
                (letter.key or b"").decode() for letter in sink.dead_letters()
            } == org.broken.keys()

    asyncio.run(story())
