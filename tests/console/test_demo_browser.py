"""The console in Chromium over the running demo: what it shows, what it does, whom it refuses.

The tests share one demo, in their order: the first ones need it as it is after its report.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestServer

from deploy.local.broker import Served
from tests.console.test_browser import page_of, violations
from tests.support.chromium import Page, chromium
from tests.support.staying_demo import StayingDemo, staying_demo
from tests.support.waiting import until, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system, pytest.mark.timeout(600)]

PEOPLE = 200
# From a notification to what the org or the console shows of it, on cores that others use too.
SECONDS = 60.0
REASON = "field_custom_validation_exception"
REFUSED = "refused@refused.example"
# What starts a run, where a page of the console sends it.
FORM = {"kind": "reconcile", "scope": "all", "why": "because", "expect": "1"}
# Statuses of an outcome after which the contact has a record of its own.
WITH_RECORD = {"created", "updated", "filled", "unchanged", "stale"}

# The rows of the table whose caption begins with a text, each by the titles of its columns.
ROWS = """(caption => {
  const table = [...document.querySelectorAll('table')]
    .find(each => each.caption.textContent.startsWith(caption));
  const titles = [...table.querySelectorAll('thead th')].map(each => each.textContent);
  return [...table.querySelectorAll('tbody tr')]
    .map(row => [...row.cells].map(cell => cell.textContent))
    .filter(cells => cells.length === titles.length)
    .map(cells => Object.fromEntries(cells.map((text, at) => [titles[at], text])));
})"""
FIGURES = """Object.fromEntries([...document.querySelectorAll('dl.figures .figure')]
  .map(each => [each.querySelector('dt').textContent,
    [...each.querySelectorAll('dd')].map(one => one.textContent).join(' ')]))"""


@pytest.fixture(scope="module")
def demo(kafka_server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StayingDemo]:
    """The demo after its report."""
    with staying_demo(tmp_path_factory.mktemp("demo"), kafka_server.bootstrap, PEOPLE) as one:
        yield one


async def rows(page: Page, caption: str) -> list[dict[str, str]]:
    """A table of the open page."""
    found: list[dict[str, str]] = await page.run(f"{ROWS}({json.dumps(caption)})")
    return found


async def figures(page: Page) -> dict[str, str]:
    """The large numbers of the open page with their details, by their names."""
    found: dict[str, str] = await page.run(FIGURES)
    return found


def outcomes(demo: StayingDemo) -> list[tuple[str, dict[str, Any]]]:
    """Every record of contacts.outcomes: the contact key, and what it says."""
    return [
        (record.key.decode(), json.loads(record.value))
        for record in demo.kafka.read("contacts.outcomes")
        if record.key and record.value
    ]


def people_by_grant(demo: StayingDemo) -> Counter[str]:
    """How many contacts of each grant are in Salesforce or should be, by their last outcomes."""
    last = dict(outcomes(demo))
    return Counter(
        key.partition("/")[0] for key, outcome in last.items() if outcome["kind"] != "deleted"
    )


def grants(demo: StayingDemo) -> set[str]:
    """The grants that grants.events names; a second record of each keeps its address."""
    keys = [record.key.decode() for record in demo.kafka.read("grants.events") if record.key]
    return {key.partition("/")[0] for key in keys}


def open_letters(demo: StayingDemo) -> int:
    """Dead letters without a tombstone after them."""
    last = {record.key: record.value for record in demo.kafka.read("contacts.dead-letter")}
    return sum(value is not None for value in last.values())


def audited(demo: StayingDemo) -> list[dict[str, Any]]:
    """Every record of the audit."""
    return [
        json.loads(record.value)
        for record in demo.kafka.read("contactstream.audit")
        if record.value
    ]


def done(demo: StayingDemo) -> tuple[int, set[bytes]]:
    """What people have done so far: how much the audit holds, and the reconciles in reader.runs."""
    runs = {record.key or b"" for record in demo.kafka.read("reader.runs")}
    return len(audited(demo)), {key for key in runs if b"-reconcile-" in key}


def alerts(demo: StayingDemo) -> list[tuple[str, str]]:
    """The alerts of the demo's Prometheus that fire or are about to, by name and state."""
    answer = httpx.get(f"{demo.prometheus}/api/v1/alerts").json()
    return [(each["labels"]["alertname"], each["state"]) for each in answer["data"]["alerts"]]


def all_scraped(demo: StayingDemo) -> bool:
    """Whether the demo's Prometheus has scraped the four stages and the console."""
    query = {"query": "count(contactstream_build_info)"}
    found = httpx.get(f"{demo.prometheus}/api/v1/query", params=query).json()["data"]["result"]
    return [each["value"][1] for each in found] == ["5"]


def evaluated_since(demo: StayingDemo, epoch: float) -> bool:
    """Whether Prometheus has evaluated every rule since then, without an error."""
    groups = httpx.get(f"{demo.prometheus}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert not [rule for rule in rules if rule["health"] == "err"], "a rule cannot be evaluated"
    return all(datetime.fromisoformat(rule["lastEvaluation"]).timestamp() > epoch for rule in rules)


def refuse(demo: StayingDemo, *addresses: str) -> None:
    """From now on a validation rule of the org refuses who has one of these addresses."""
    httpx.delete(f"{demo.salesforce}/_sim/faults").raise_for_status()
    rule = {
        "effect": "rows",
        "kind": "composite_write",
        "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "times": None,
    }
    faults = [rule | {"contains": address} for address in addresses]
    httpx.post(f"{demo.salesforce}/_sim/faults", json={"faults": faults}).raise_for_status()


def records(demo: StayingDemo, sobject: str) -> list[dict[str, Any]]:
    """Every record of an object in the org."""
    answer = httpx.get(f"{demo.salesforce}/_sim/records/{sobject}")
    answer.raise_for_status()
    return list(answer.json())


def records_of_the_org(demo: StayingDemo) -> set[str]:
    """The IDs of its Contacts and Leads."""
    return {each["Id"] for sobject in ("Contact", "Lead") for each in records(demo, sobject)}


def in_the_org(demo: StayingDemo, address: str) -> list[dict[str, Any]]:
    """The Leads of the org with this address."""
    return [record for record in records(demo, "Lead") if record.get("Email") == address]


@pytest.fixture(scope="module")
def letter(demo: StayingDemo) -> Iterator[str]:
    """The grant of a contact that the org refuses; its dead letter is open."""
    grant = sorted(grants(demo))[0]
    refuse(demo, REFUSED)
    contact = {
        "id": "refused",
        "grant_id": grant,
        "object": "contact",
        "given_name": "Rhea",
        "surname": "Refused",
        "company_name": "Refused",
        "emails": [{"email": REFUSED, "type": "work"}],
    }
    notification = {
        "object": contact,
        "type": "contact.updated",
        "time": int(time.time()),
        "id": "refused-1",
    }
    httpx.post(
        f"{demo.nylas}/_sim/notify",
        json={"notifications": [notification], "wait": True},
        timeout=SECONDS,
    ).raise_for_status()
    wait_until(lambda: open_letters(demo) == 1, "the contact is dead-lettered", SECONDS)
    yield grant
    refuse(demo)


def test_while_nothing_is_wrong_no_alert_fires_or_is_about_to(demo: StayingDemo) -> None:
    # Before the first scrape every stage is absent.
    wait_until(lambda: all_scraped(demo), "every process is scraped", SECONDS)
    scraped = time.time()
    wait_until(lambda: evaluated_since(demo, scraped), "every rule is evaluated", SECONDS)
    assert alerts(demo) == []


async def test_the_pages_show_what_the_topics_hold(
    demo: StayingDemo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    every, people = outcomes(demo), people_by_grant(demo)
    first = [outcome for _, outcome in every if outcome["first"]]
    found = sum(outcome["matched"] is not None for outcome in first)
    rate = f"{found / len(first):.1%} of {len(first)} first lookups"
    with_record = {
        key: outcome
        for key, outcome in dict(every).items()
        if outcome["outcome"] in WITH_RECORD and outcome["kind"] != "deleted"
    }
    assert sum(people.values()) >= PEOPLE
    assert len(with_record) == sum(people.values())
    assert {outcome["id"] for outcome in with_record.values()} <= records_of_the_org(demo)
    async with chromium(tmp_path_factory.mktemp("profile")) as page:
        await page.goto(f"{demo.console}/")
        shown = await figures(page)
        assert shown["Match rate"] == rate
        assert shown["Failed"] == f"0.0% of the newest {len(every)} contacts"
        assert shown["Open dead letters"].startswith(f"{open_letters(demo)} ")
        stages = {row["Stage"]: row for row in await rows(page, "Each stage")}
        assert {name: row["Workers"] for name, row in stages.items()} == {
            "bridge": "–",
            "dedupe": "1",
            "reader": "1",
            "sink": "1",
        }
        assert {stages[name]["Lag, records"] for name in ("dedupe", "sink")} == {"0"}

        await page.goto(f"{demo.console}/people")
        shown = await figures(page)
        assert f"{len(with_record)} of {sum(people.values())} people" in shown["Coverage"]
        assert shown["Match rate"] == rate
        books = await rows(page, "Coverage")
        assert {row["Grant"]: int(row["People"]) for row in books} == people

        await page.goto(f"{demo.console}/grants")
        assert (await figures(page))["Valid"].startswith(f"{len(grants(demo))} ")
        listed = await rows(page, "Address books")
        assert {row["Grant"]: int(row["People"]) for row in listed} == people
        assert {row["Grant"] for row in listed} == grants(demo)
        assert not [row for row in listed if "our-team" in row["Owner"]], "owners are masked"

        await page.goto(f"{demo.console}/dead-letters")
        assert await page.run("document.querySelector('#reasons-title').textContent") == (
            f"{open_letters(demo)} open letters"
        )
        assert page.problems == []


async def test_axe_finds_nothing_on_any_page_also_with_a_letter(
    demo: StayingDemo, letter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with chromium(tmp_path_factory.mktemp("profile")) as page:
        await page.look_like(1280, 900, "light")
        await page.goto(f"{demo.console}/dead-letters")
        addresses = await page.run("[...document.querySelectorAll('nav a')].map(each => each.href)")
        assert len(addresses) == 8
        one = await page.run("document.querySelector('a[href*=\"/letter?id=\"]').href")
        further = (
            f"{demo.console}/people?grant={letter}",
            f"{demo.console}/person?subject={letter}/refused",
            f"{demo.console}/dead-letters/redrive?reason={REASON}",
            f"{demo.console}/dead-letters/discard?reason={REASON}",
            f"{demo.console}/runs/start?kind=reconcile",
        )
        for address in (*addresses, one, *further):
            await page.goto(address)
            assert await violations(page) == [], address
        assert page.problems == []


async def test_a_new_reason_alerts_and_a_redrive_by_clicks_lands_in_the_org(
    demo: StayingDemo, letter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fires = [("ContactstreamNewDeadLetterReason", "firing")]
    await until(lambda: alerts(demo) == fires, "the new reason alerts, and nothing else", SECONDS)
    async with chromium(tmp_path_factory.mktemp("profile")) as page:
        await page.goto(f"{demo.console}/")
        assert (await figures(page))["Open dead letters"].startswith("1 ")
        await page.goto(f"{demo.console}/people")
        assert (await figures(page))["Failed"].startswith("1 ")

        await page.goto(f"{demo.console}/dead-letters?reason={REASON}")
        await page.leave_by('a[href*="/letter?id="]')
        shown = "document.querySelector('main').textContent"
        assert REFUSED not in await page.run(shown)
        await page.leave_by('form[action$="reveal"] button')
        assert REFUSED in await page.run(shown)
        shown_as = await page.run("document.querySelector('footer p').textContent")
        letter_id = await page.run(
            "new URL(document.querySelector('a[href*=\"/letter?id=\"]').href)"
            ".searchParams.get('id')"
        )
        (reveal,) = {entry["action_id"]: entry for entry in audited(demo)}.values()
        assert (reveal["action"], reveal["state"]) == ("dead-letters show --reveal", "ended")
        assert reveal["selection"] == {"id": letter_id}
        assert reveal["actor"] == shown_as

        refuse(demo)
        await page.goto(f"{demo.console}/dead-letters?reason={REASON}")
        await page.leave_by('a[href^="/dead-letters/redrive"]')
        assert "Redrive 1 letter?" in await page.run("document.body.textContent")
        assert in_the_org(demo, REFUSED) == [], "a preview does nothing"
        await page.run("document.querySelector('#why').value = 'the rule was mended'")
        await page.leave_by("form.confirm button")
        assert "1 letter was redriven." in await page.run("document.body.textContent")
        (record,) = await until(lambda: in_the_org(demo, REFUSED), "the record", SECONDS)
        assert record["LastName"] == "Refused"
        assert open_letters(demo) == 0
        redrive = audited(demo)[-1]
        assert (redrive["action"], redrive["state"], redrive["count"]) == (
            "dead-letters redrive",
            "ended",
            1,
        )
        assert (redrive["why"], redrive["actor"]) == ("the rule was mended", reveal["actor"])

        async def nobody_failed() -> bool:
            await page.goto(f"{demo.console}/people")
            return (await figures(page))["Failed"].startswith("0 ")

        await until(nobody_failed, "the page shows that nobody failed", SECONDS)
        assert page.problems == []


def test_what_no_page_of_the_console_sent_is_refused(demo: StayingDemo) -> None:
    before = done(demo)
    strange: tuple[dict[str, str], ...] = (
        {},
        {"Sec-Fetch-Site": "cross-site", "Origin": demo.console},
        {"Origin": "http://evil.example"},
    )
    for path in ("/runs/start", "/dead-letters/redrive", "/grants/reveal"):
        for headers in strange:
            answer = httpx.post(f"{demo.console}{path}", data=FORM, headers=headers)
            assert answer.status_code == 403, (path, headers, answer.text)
    port = demo.console.rpartition(":")[2]
    for host in (f"evil.example:{port}", "evil.example", "127.0.0.1:1", ""):
        answer = httpx.get(f"{demo.console}/people", headers={"Host": host})
        assert answer.status_code == 421, (host, answer.text)
        assert "Coverage" not in answer.text
    assert done(demo) == before


async def test_another_site_cannot_act_and_a_rebound_name_sees_nothing(
    demo: StayingDemo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = done(demo)
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in FORM.items())
    action = f"{demo.console}/runs/start"
    html = f'<form method="post" action="{action}">{inputs}<button>Win</button></form>'
    rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    async with (
        chromium(tmp_path_factory.mktemp("profile"), rebound) as page,
        TestServer(page_of(html)) as other,
    ):
        await page.goto(f"http://evil.example:{other.port}/")
        await page.leave_by("button")
        assert "not sent by a page of this console" in await page.run("document.body.innerText")
        host = f"evil.example:{demo.console.rpartition(':')[2]}"
        await page.goto(f"http://{host}/people")
        shown = await page.run("document.body.innerText")
        assert f"{host} is not a name of this console" in shown
        assert "Coverage" not in shown
        await page.goto(f"{demo.console}/people")
        assert "Coverage" in await page.run("document.body.innerText"), "its own name works"
    assert done(demo) == before
