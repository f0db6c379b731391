"""Random changes through the sink's logic into an org that fails in every documented way.

At the end the org holds what a plain model predicts: every contact in its newest version or in the
dead letters, and no person twice.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.salesforce.api.budget import Budget
from connectors.salesforce.simulator.faults import parse_random
from connectors.salesforce.simulator.schema import make_id
from connectors.salesforce.simulator.store import row_error
from connectors.salesforce.simulator.world import INTEGRATION_USER
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.sink.fence import WriteFence
from tests.support.salesforce_org import SimulatedOrg, simulated_org
from tests.support.sink_harness import SinkHarness, running_sink

pytestmark = pytest.mark.slow

KEY, VERSION = "Nylas_Contact_Id__c", "Nylas_Version__c"
EMAILS = ("Email", "Nylas_Email_2__c", "Nylas_Email_3__c")
REFUSED = "against the rule"  # a Title that the org's own validation rule refuses
CALLS = ("500", "503", "html", "reset", "cut_after", "500_after", "short", "short_rows", "expire")
# The sink's clock moves by this at each check, so that no pause lasts.
STEP_SECONDS = 20.0


@dataclass(frozen=True)
class Step:
    """One change, and what happens before it."""

    key: str
    person: int
    kin: bool  # another person on the same mailbox
    kind: str  # update, refused or delete
    # older than the contact's previous change, unless that was a deletion: the dedupe stage drops
    # changes older than a deletion
    late: bool
    before: str
    """nothing, pause (a batch goes), settle (all changes so far are committed), rebalance,
    limit (the daily calls are used up), or calls (they are available again).
    """


@dataclass(frozen=True)
class Story:
    existing: Mapping[int, str]
    """What the org holds of each person.

    contact, lead, second (a Lead with an address of the person in its second field), converted, or
    blocked (a Lead of the same name and another address, which a duplicate rule with Block finds).
    """
    steps: Sequence[Step]
    governor: int | None
    rate: float
    seed: int
    batch_size: int


@st.composite
def steps(draw: st.DrawFn) -> Step:
    person = draw(st.integers(0, 5))
    kin = draw(st.integers(0, 5)) == 0
    key = f"{draw(st.sampled_from('aabc'))}/{person}{'kin' if kin else ''}"
    kind = draw(st.sampled_from(["update"] * 6 + ["refused", "delete"]))
    before = draw(
        st.sampled_from(
            ["nothing"] * 10 + ["pause"] * 4 + ["settle", "settle", "rebalance", "limit", "calls"]
        )
    )
    return Step(key, person, kin, kind, draw(st.integers(0, 5)) == 0, before)


stories = st.builds(
    Story,
    existing=st.dictionaries(
        st.integers(0, 5),
        st.sampled_from(["contact", "lead", "second", "converted", "blocked"]),
        max_size=5,
    ),
    steps=st.lists(steps(), min_size=20, max_size=60),
    governor=st.sampled_from([None, 2, 10]),
    rate=st.sampled_from([0.0, 0.02, 0.05]),
    seed=st.integers(0, 1000),
    batch_size=st.sampled_from([1, 5, 20]),
)


def versions(story: Story) -> list[tuple[int, Step]]:
    """Each step with the version of its change."""
    found: list[tuple[int, Step]] = []
    newest: dict[str, tuple[int, Step]] = {}
    for place, step in enumerate(story.steps, 1):
        before = newest.get(step.key)
        late = (
            step.late
            and before is not None
            and before[1].kind != "delete"
            and step.kind != "delete"
        )
        if late and before is not None:
            found.append((before[0] - len(story.steps) + place - 1, step))
        else:
            newest[step.key] = (place * 1000, step)
            found.append(newest[step.key])
    return found


def main_address(person: int) -> str:
    return f"person{person}@{'known.example' if person % 2 else 'else.example'}"


def home(person: int) -> str:
    return f"p{person}@home.example"


def contact(step: Step, version: int) -> dict[str, Any] | None:
    if step.kind == "delete":
        return None
    title = REFUSED if step.kind == "refused" else f"{step.key} at {version}"
    listed = (
        [home(step.person)] if step.kin else [main_address(step.person), home(step.person).upper()]
    )
    surname = f"{'Kin' if step.kin else 'Person'} {step.person}"
    return {
        "surname": surname,
        "job_title": title,
        "emails": [{"email": address} for address in listed],
    }


def document(story: Story) -> dict[str, Any]:
    """The org before the story."""
    account = make_id("001", 1)
    made: dict[str, Any] = {
        "accounts": [{"Id": account, "Name": "Known", "Website": "known.example"}],
        "contacts": [],
        "leads": [],
        "settings": {
            "governor_rows": story.governor,
            "seed": story.seed,
            "latency_ms_call": 6,
            "latency_jitter": 1.0,
        },
        "duplicate_rules": [
            {
                "name": "Same_Name",
                "sobject": "Lead",
                "match_on": ["LastName"],
                "action": "Block",
                "on": ["create"],
            }
        ],
    }
    for person, kind in story.existing.items():
        record = {"LastName": f"Person {person}", "Email": main_address(person)}
        lead = record | {"Company": "x"}
        match kind:
            case "contact":
                made["contacts"].append(record | {"AccountId": account})
            case "lead":
                made["leads"].append(lead)
            case "second":
                made["leads"].append(
                    lead | {"Email": f"old{person}@gone.example", EMAILS[1]: home(person)}
                )
            case "converted":
                made["leads"].append(lead | {"Id": make_id("00Q", 100 + person)})
            case "blocked":
                made["leads"].append(lead | {"Email": f"stranger{person}@gone.example"})
    return made


def validate(org: SimulatedOrg) -> None:
    """A validation rule of the org's own."""
    store = org.world.org
    usual = store._refusals

    def refusals(table: Any, draft: Any, *rest: Any) -> list[Any]:
        if draft.values.get("Title") == REFUSED:
            return [row_error("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Not such a title, please")]
        return usual(table, draft, *rest)

    store._refusals = refusals  # type: ignore[method-assign, assignment]


async def run_story(story: Story, sink: SinkHarness, org: SimulatedOrg) -> None:
    """Offers every change with the events before it; waits until all are committed."""
    for person, kind in story.existing.items():
        if kind == "converted":
            org.world.convert(make_id("00Q", 100 + person), None)
    rates = dict.fromkeys(CALLS, story.rate) | {"lock": story.rate}
    org.world.faults.random = parse_random({"seed": story.seed, "rates": rates, "limit": 60})
    for version, step in versions(story):
        match step.before:
            case "pause":
                await asyncio.sleep(0.015)
            case "settle":
                org.world.change_settings({"daily_used": 0})
                await sink.until_committed(skip=STEP_SECONDS)
            case "rebalance":
                sink.consumer.between_polls += [sink.consumer.lose, sink.consumer.assign]
            case "limit":
                org.world.change_settings({"daily_used": 1_000_000})
            case "calls":
                org.world.change_settings({"daily_used": 0})
        sink.offer(step.key, version, contact(step, version))
        await asyncio.sleep(0)
    org.world.change_settings({"daily_used": 0})
    await sink.until_committed(skip=STEP_SECONDS)


@dataclass
class Model:
    """The expected result: the newest change of each contact."""

    story: Story
    newest: dict[str, tuple[int, Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for version, step in versions(self.story):
            self.newest[step.key] = max(
                self.newest.get(step.key, (0, step)), (version, step), key=lambda one: one[0]
            )

    def families(self) -> set[int]:
        return {step.person for step in self.story.steps if step.kin}

    def comes_late(self, key: str) -> bool:
        """Whether an older change of the contact comes after its newest one."""
        return any(
            step.key == key and version < self.newest[key][0]
            for version, step in versions(self.story)
        )

    def may_die(self, step: Step) -> bool:
        return step.kind == "refused" or (
            self.story.existing.get(step.person) == "blocked" and step.kind != "delete"
        )


def last_outcomes(sink: SinkHarness) -> dict[str, dict[str, Any]]:
    """The last outcome of each contact's newest version."""
    found: dict[str, dict[str, Any]] = {}
    for key, outcome in sink.all_outcomes():
        if key not in found or outcome["version"] >= found[key]["version"]:
            found[key] = outcome
    return found


def compare(story: Story, sink: SinkHarness, org: SimulatedOrg) -> None:
    model = Model(story)
    people = org.people()
    by_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    holders: dict[str, list[str]] = defaultdict(list)
    for record in people:
        by_key[record.get(KEY) or ""].append(record)
        for address in {record[name].lower() for name in EMAILS if record.get(name)}:
            holders[address].append(record["LastName"])
    for address, names in holders.items():
        # two of a family on one mailbox are two people, where a record of each is found or made
        # before they meet
        family = {address} <= {home(person) for person in model.families()}
        assert len(names) == (len(set(names)) if family else 1), (
            f"a person is there twice: {address}"
        )

    outcomes = last_outcomes(sink)
    dead = {
        ((letter.key or b"").decode(), int(dict(letter.headers)["version"] or 0))
        for letter in sink.dead_letters()
    }
    assert outcomes.keys() == model.newest.keys()
    steps_of = {(step.key, version): step for version, step in versions(story)}
    for dead_letter in dead:
        assert model.may_die(steps_of[dead_letter]), f"{dead_letter} could have been written"
    for key, (version, step) in model.newest.items():
        outcome, held = outcomes[key], by_key[key]
        assert outcome["version"] == version, f"{key}: the last outcome is of an older version"
        assert len(held) <= 1
        if step.kind == "delete":
            assert outcome["outcome"] in {"released", "unchanged"}
            assert not held, f"{key} is deleted and still holds a record"
            continue
        match outcome["outcome"]:
            case "failed":
                assert (key, version) in dead, f"{key}: failed without a dead letter"
            case "created" | "updated" | "unchanged":
                (record,) = held
                assert record[VERSION] == version, f"{key}: not the newest version"
                if record["CreatedById"] == INTEGRATION_USER:
                    assert record["Title"] == f"{key} at {version}"
            case "filled":
                assert holders[home(step.person)], f"{key}: filled no record"
                # An older change that came late may have taken over a record that its owner
                # released meanwhile. The dedupe stage lets no such change pass.
                assert not held or model.comes_late(key)
                assert all(record[VERSION] < version for record in held)
            case "covered":
                assert step.kin, f"{key}: its main address is nobody else's"
                assert outcome["id"] in outcome["candidates"]
                assert holders[home(step.person)]
            case other:
                raise AssertionError(f"{key}: {other}")
    written: dict[tuple[str, str], float] = {}
    for write in org.world.org.writes:
        if write.key and write.version is not None:
            assert write.version >= written.get((write.id, write.key), 0), "older over newer"
            written[write.id, write.key] = write.version
    assert org.methods.keys() <= {"GET", "POST", "PATCH"}, "Salesforce is never asked to delete"


@settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(story=stories)
def test_an_org_full_of_faults_ends_as_a_plain_model_predicts(story: Story) -> None:
    async def run() -> None:
        skipped = [0.0]
        fence = WriteFence(60.0)  # a busy machine is not taken for a pause
        budget = Budget(0.1, clock=lambda: time.monotonic() + skipped[0])
        async with simulated_org(document(story), budget=budget) as org:
            validate(org)
            # the clock of this org stands still, and none of its calls comes late
            org.sync.unanswered = UnansweredCalls(0.0)
            async with running_sink(
                org.sync, fence, skipped, batch_size=story.batch_size, in_flight=3
            ) as sink:
                await run_story(story, sink, org)
                compare(story, sink, org)

    with capture_logs():
        asyncio.run(run())
