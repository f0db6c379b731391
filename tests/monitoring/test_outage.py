"""Three outages, and what a person is told of each by our alerts.

Real stages run on a real broker with simulators of Nylas and Salesforce. A Prometheus and an
Alertmanager with our rules and our example watch them, in a time that passes 60 times as fast
(tests/support/scaled_time.py). People come into an address book all the time; at the end of each
act every one of them is in the org, once.

The acts share one deployment. That of the broker is the last: after it a stage may be ready only
just long enough for the rules that look back over half an hour. `pytest -s` prints what happened in
each, in hours and minutes of a real deployment.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from deploy.local.broker import Broker, make_broker
from tests.monitoring.test_rules import PAGES
from tests.support.alert_watch import SCRAPE_SECONDS, Alert, Watch, watching
from tests.support.kafka import Kafka
from tests.support.kept_running import Keeper, kept_running, version_command
from tests.support.new_people import NewPeople, people_coming
from tests.support.product import GRANT, Product, product
from tests.support.scaled_time import scaled
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.timeout(900)]

MINUTE = scaled(60)
# The longest look back of a rule that pages, but for those that wait for days.
LOOK_BACK = 30 * MINUTE
# Nylas sends a notification a second time after 5 minutes, and a third time after 10 more.
RETRY_SECONDS = scaled(300)
# An org that is away says when to come back, and the sink asks it again then.
RETRY_AFTER_SECONDS = 1
# Until an alert that is expected has been sent, on cores that other tests use too: far longer than
# any of them takes. The order is asserted, and the least time of each.
SECONDS = 150.0

STAGE_ABSENT: Alert = ("ContactstreamStageAbsent", "sink")
NO_PROGRESS: Alert = ("ContactstreamNoProgress", "sink")
NO_PROGRESS_OF_DEDUPE: Alert = ("ContactstreamNoProgress", "dedupe")
RECOVERY_STUCK: Alert = ("ContactstreamRecoveryStuck", "dedupe")
BEHIND: Alert = ("ContactstreamBehind", "sink")
SALESFORCE_AWAY: Alert = ("ContactstreamSalesforceAway", "sink")
WEBHOOK_AT_RISK: Alert = ("ContactstreamWebhookAtRisk", "bridge")
VERSION_SKEW: Alert = ("ContactstreamVersionSkew", "")
# Dedupe and the sink page too, if records waited for them when they last asked the broker, and it
# is away for half an hour. A start after a kill may take that long in this time. That a stage is
# behind alerts at the same moment as that it does nothing, and either may be the first.
WITHOUT_BROKER = {
    WEBHOOK_AT_RISK,
    NO_PROGRESS,
    NO_PROGRESS_OF_DEDUPE,
    BEHIND,
    ("ContactstreamBehind", "dedupe"),
}
# The objective looks back for hours: it alerts once the late contacts have arrived, and long after.
LATE = {("ContactstreamFreshnessBurnsFast", ""), ("ContactstreamFreshnessBurnsSlowly", "")}
# An end and a start of a process that take 10 s on a busy machine are 10 minutes of this time.
SLOW_STARTS = {("ContactstreamStageAbsent", "dedupe"), ("ContactstreamStageAbsent", "reader")}


@dataclass(frozen=True, slots=True)
class World:
    """A deployment that is watched, and into whose address book people come."""

    running: Product
    broker: Broker
    keeper: Keeper
    people: NewPeople
    watch: Watch

    def told(self) -> list[Alert]:
        """Of which alerts a person was told that they fire, without what is no matter here."""
        return [alert for alert in self.watch.told("firing") if alert not in LATE | SLOW_STARTS]

    def held_back(self) -> set[Alert]:
        """Of which alerts nobody was told for a while, without what is no matter here."""
        return self.watch.held_back - LATE - SLOW_STARTS

    def assert_mended(self) -> None:
        """Waits until all alerts have ended, a person knows, and everybody is in the org once."""
        left = set(self.told()) - self.held_back()
        self.watch.wait_told(left, "resolved", SECONDS)
        wait_until(lambda: self.watch.firing() <= LATE, "no alert is left", SECONDS)
        so_far, records = frozenset(self.people.addresses), self.people.records
        wait_until(lambda: so_far <= records().keys(), "everybody is in the org", SECONDS)
        assert [address for address, count in records().items() if count > 1] == []
        assert self.running.dead_letters() == []
        assert self.watch.sent_to("pager") <= PAGES
        assert not self.watch.sent_to("tickets") & PAGES
        self.watch.note(f"all {len(so_far)} people who came so far are in the org, each once")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything runs, and has been watched for as long as a rule looks back."""
    broker = make_broker(tmp_path_factory.mktemp("broker"))
    book = {"id": GRANT, "email": "ada@acme.example", "provider": "google"}
    folder = tmp_path_factory.mktemp("outage")
    try:
        broker.start()
        kafka = Kafka(broker.bootstrap, "outage.")
        with (
            product(kafka, folder, org={}, grants=[book]) as running,
            kept_running(running) as keeper,
            people_coming(running) as people,
            watching(folder / "watch", keeper.targets) as watch,
        ):
            running.http.post(
                f"{running.nylas}/_sim/settings", json={"retry_delay": RETRY_SECONDS}
            ).raise_for_status()
            wait_until(lambda: watch.now > LOOK_BACK, "the rules have their past", SECONDS)
            yield World(running, broker, keeper, people, watch)
    finally:
        broker.kill()


@contextmanager
def act(world: World) -> Iterator[Watch]:
    """An outage, before which nobody is told anything. Prints its timeline."""
    assert world.watch.firing() <= LATE
    world.watch.begin_act()
    try:
        yield world.watch
    finally:
        print(f"\n{world.watch.timeline()}")


def minutes(watch: Watch, alert: Alert, since: float) -> int:
    """Minutes of a real deployment until a person was told, with the benefit of the doubt.

    What happens between two scrapes counts from the one before.
    """
    return math.ceil((watch.at(alert) - since + scaled(SCRAPE_SECONDS)) / MINUTE)


def salesforce_answers(running: Product, *, well: bool) -> None:
    """From now on the org answers, or says 503 to every request."""
    faults = f"{running.salesforce}/_sim/faults"
    running.http.delete(faults).raise_for_status()
    if not well:
        away = {
            "effect": "status",
            "status": 503,
            "times": None,
            "retry_after": RETRY_AFTER_SECONDS,
        }
        running.http.post(faults, json={"faults": [away]}).raise_for_status()


def test_salesforce_is_away(world: World) -> None:
    """A ticket says why; after half an hour somebody is called; that it is late goes unsaid."""
    with act(world) as watch:
        away = watch.note("Salesforce answers every request with 503")
        salesforce_answers(world.running, well=False)
        watch.wait_told([SALESFORCE_AWAY, NO_PROGRESS], "firing", SECONDS)
        wait_until(lambda: BEHIND in watch.held_back, "that the sink is behind", SECONDS)
        assert watch.told("firing") == [SALESFORCE_AWAY, NO_PROGRESS]
        assert minutes(watch, SALESFORCE_AWAY, away) >= 15
        assert minutes(watch, NO_PROGRESS, away) >= 30
        assert world.held_back() == {BEHIND}

        watch.note("Salesforce answers again")
        salesforce_answers(world.running, well=True)
        world.assert_mended()
        assert world.told() == [SALESFORCE_AWAY, NO_PROGRESS], "that it catches up is no news"


def test_a_bad_deploy(world: World) -> None:
    """A sink that ends at once, a dedupe that waits for ever, and a reader of an older version."""
    with act(world) as watch:
        deployed = watch.note(
            "a sink without SALESFORCE_CLIENT_ID, a dedupe with a wrong KAFKA_TOPIC_PREFIX, and a "
            "reader of an older version"
        )
        world.keeper.deploy("sink", SALESFORCE_CLIENT_ID="")
        world.keeper.deploy("dedupe", KAFKA_TOPIC_PREFIX="wrong.")
        world.keeper.deploy("reader", version_command("0.0.1"))
        twenty_minutes = {NO_PROGRESS, NO_PROGRESS_OF_DEDUPE, RECOVERY_STUCK}
        watch.wait_told([STAGE_ABSENT, *twenty_minutes, VERSION_SKEW], "firing", SECONDS)
        told = world.told()
        assert told[0] == STAGE_ABSENT
        assert set(told[1:-1]) == twenty_minutes
        assert told[-1] == VERSION_SKEW
        assert minutes(watch, STAGE_ABSENT, deployed) >= 10
        for alert in twenty_minutes:
            assert minutes(watch, alert, deployed) >= 20
        assert minutes(watch, VERSION_SKEW, deployed) >= 60
        assert world.held_back() == {STAGE_ABSENT}, "the page says it all"

        watch.note("all three are deployed as they should be")
        for stage in ("sink", "dedupe", "reader"):
            world.keeper.deploy(stage)
        world.assert_mended()
        assert world.told() == told


def test_the_broker_is_away(world: World) -> None:
    """Somebody is called because of the webhook, in time before Nylas gives it up."""
    with act(world) as watch:
        away = watch.note("the broker is killed")
        world.broker.kill()
        both = {"refusals", "not_ready"}
        wait_until(
            lambda: watch.causes(WEBHOOK_AT_RISK) == both, "both say that it is at risk", SECONDS
        )
        assert world.told()[0] == WEBHOOK_AT_RISK
        assert 10 <= minutes(watch, WEBHOOK_AT_RISK, away) <= 60
        assert set(world.told()) <= WITHOUT_BROKER

        watch.note("the broker is started again")
        world.broker.start()
        world.assert_mended()
        assert set(world.told()) <= WITHOUT_BROKER
