"""The client, the subrequests and the classification of errors, against the simulated org."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.salesforce.api.auth import ClientCredentials, Credentials, JwtBearer, Session
from connectors.salesforce.api.classification import classify_row
from connectors.salesforce.api.client import SalesforceClient, http_client
from connectors.salesforce.api.composite import (
    Subrequest,
    query_page,
    query_subrequest,
    row_results,
    update_subrequest,
    upsert_subrequest,
    write_headers,
)
from connectors.salesforce.api.describe import describe_answer, describe_subrequest
from connectors.salesforce.api.errors import (
    Action,
    OrgUnavailable,
    RequestRejected,
    UnexpectedAnswer,
)
from connectors.salesforce.org_fields import KEY_FIELD, VERSION_FIELD
from connectors.salesforce.packing import pack
from connectors.salesforce.rows import WriteRow, collection_subrequest
from connectors.salesforce.simulator.faults import parse_fault
from connectors.salesforce.simulator.server import app, state
from connectors.salesforce.simulator.world import INTEGRATION_USER, ORG_ID, World


class Org:
    """A simulated org behind a socket, and its clients."""

    def __init__(self, world: World, url: str) -> None:
        self.world = world
        self.url = url
        self.kinds: list[tuple[str, int | None]] = []

    def client(
        self, credentials: Credentials | None = None, answer_seconds: float = 10.0
    ) -> SalesforceClient:
        http = http_client()

        def on_call(kind: str, status: int | None, seconds: float) -> None:
            self.kinds.append((kind, status))

        session = Session(
            credentials or ClientCredentials("client", "secret", self.url), http, on_call
        )
        return SalesforceClient(session, http, on_call=on_call, answer_seconds=answer_seconds)

    def fault(self, **options: Any) -> None:
        self.world.faults.queue.append(parse_fault(options))

    def records(self, sobject: str) -> int:
        count = state(self.world)["records"][sobject]
        assert isinstance(count, int)
        return count


@pytest.fixture
async def org() -> AsyncIterator[Org]:
    world = World()
    runner = web.AppRunner(app(world), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield Org(world, f"http://{host}:{port}")
    await runner.cleanup()


@pytest.fixture
async def client(org: Org) -> AsyncIterator[SalesforceClient]:
    async with org.client() as client:
        yield client


def lead(number: int, version: int = 1) -> dict[str, Any]:
    return {KEY_FIELD: f"g/{number}", "LastName": "Doe", "Company": "Acme", VERSION_FIELD: version}


def leads(count: int, ref: str = "a", start: int = 0) -> Subrequest:
    return upsert_subrequest(
        "Lead", KEY_FIELD, [lead(number) for number in range(start, start + count)], ref
    )


async def test_start_up_is_one_call_beside_the_login(org: Org, client: SalesforceClient) -> None:
    answers = await client.composite(
        [
            describe_subrequest("Contact", "contact"),
            describe_subrequest("Lead", "lead"),
            query_subrequest("SELECT Id, Website FROM Account", "accounts"),
        ],
        "describe",
    )
    contact, described = describe_answer(answers[0]), describe_answer(answers[1])
    assert query_page(answers[2]).next_url is None
    assert contact.fields["Email"].type == "email"
    assert {"LastName", "Company"} <= described.required
    key = described.fields[KEY_FIELD]
    assert (key.external_id, key.unique, key.case_sensitive, key.length) == (True, True, True, 255)
    assert org.kinds == [("token", 200), ("describe", 200)]


async def test_a_jwt_login_is_taken_and_names_the_user(org: Org) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    org.world.replace(
        {"auth": {"client_id": "client", "username": "me@acme.com", "public_key": public.decode()}}
    )
    async with org.client(JwtBearer("client", "me@acme.com", private.decode(), org.url)) as client:
        assert await client.user_id() == INTEGRATION_USER
        assert (await client._session.token()).org_id == ORG_ID
    async with org.client(JwtBearer("client", "someone else", private.decode(), org.url)) as client:
        with pytest.raises(OrgUnavailable, match="login"):
            await client.user_id()


async def test_a_thousand_new_leads_cost_one_call_and_a_repeat_creates_none_twice(
    org: Org, client: SalesforceClient
) -> None:
    rows = [WriteRow("Lead", "upsert", lead(number), tag=number) for number in range(1000)]
    for created in (True, False):
        ((call,),) = pack(rows).groups
        answers = await client.composite(
            [collection_subrequest(part, f"r{place}") for place, part in enumerate(call)],
            "composite_write",
        )
        results = [
            result
            for part, answer in zip(call, answers, strict=True)
            for result in row_results(answer, part.rows)
        ]
        assert len(results) == 1000
        assert all(result.success and result.created is created for result in results)
    assert org.records("Lead") == 1000
    assert org.kinds == [("token", 200), ("composite_write", 200), ("composite_write", 200)]
    assert state(org.world)["refusals"] == {}


async def test_twenty_calls_on_an_expired_session_cost_one_login(
    org: Org, client: SalesforceClient
) -> None:
    await client.composite([leads(1)], "composite_write")
    org.fault(effect="expire", kind="composite_write")
    await asyncio.gather(
        *(client.composite([leads(5, start=10 * n)], "composite_write") for n in range(1, 21))
    )
    assert state(org.world)["tokens_issued"] == 2
    assert org.records("Lead") == 101


async def test_a_request_whose_answer_was_lost_is_repeated_and_creates_nothing_twice(
    org: Org, client: SalesforceClient
) -> None:
    org.fault(effect="cut_after", kind="composite_write")
    (answer,) = await client.composite([leads(200)], "composite_write")
    assert {result.created for result in row_results(answer, range(200))} == {False}
    assert org.records("Lead") == 200


async def test_a_time_out_after_the_work_pauses_and_the_repeat_creates_nothing_twice(
    org: Org,
) -> None:
    org.fault(effect="delay_after", kind="composite_write", seconds=30)
    async with org.client(answer_seconds=0.5) as client:
        with pytest.raises(OrgUnavailable, match="network"):
            await client.composite([leads(100)], "composite_write")
        (answer,) = await client.composite([leads(100)], "composite_write")
    assert all(result.success for result in row_results(answer, range(100)))
    assert org.records("Lead") == 100


@pytest.mark.parametrize("effect", ["short", "short_rows"])
async def test_a_short_answer_is_an_error_and_the_repeat_creates_nothing_twice(
    org: Org, client: SalesforceClient, effect: str
) -> None:
    org.fault(effect=effect, kind="composite_write")
    subrequests = [leads(50, "a"), leads(50, "b", start=50)]

    async def write() -> None:
        for answer in await client.composite(subrequests, "composite_write"):
            assert all(result.success for result in row_results(answer, range(50)))

    with pytest.raises(UnexpectedAnswer):
        await write()
    await write()
    assert org.records("Lead") == 100


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503, "body": "html"}, "maintenance"),
        ({"status": 500}, "server_error"),
        ({"status": 429}, "request_limit"),
        (
            {
                "status": 403,
                "code": "REQUEST_LIMIT_EXCEEDED",
                "message": "TotalRequests Limit exceeded.",
            },
            "daily_limit",
        ),
    ],
)
async def test_faults_of_the_whole_org_pause(
    org: Org, client: SalesforceClient, fault: dict[str, Any], reason: str
) -> None:
    org.fault(effect="status", kind="composite_write", **fault)
    with pytest.raises(OrgUnavailable) as raised:
        await client.composite([leads(1)], "composite_write")
    assert raised.value.reason == reason
    await client.composite([leads(1)], "composite_write")


async def test_the_daily_limit_pauses_and_its_use_is_known(
    org: Org, client: SalesforceClient
) -> None:
    org.world.change_settings({"daily_limit": 100, "daily_used": 95})
    await client.composite([leads(1)], "composite_write")
    with pytest.raises(OrgUnavailable, match="budget"):  # a tenth is left to others
        await client.composite([leads(1)], "composite_write")
    assert client.budget.usage is not None
    assert client.budget.usage.allowed == 100


async def test_the_rows_of_one_collection_fail_each_for_its_own_reason(
    org: Org, client: SalesforceClient
) -> None:
    org.world.replace({"settings": {"hidden_fields": ["Lead.Title"]}})
    rows = [
        lead(1),
        {**lead(2), "Email": "badone"},
        {**lead(3), "LastName": "x" * 81},
        {**lead(4), "LastName": "  "},
        {**lead(5), "Title": "Head"},
    ]
    (answer,) = await client.composite(
        [upsert_subrequest("Lead", KEY_FIELD, rows, "a")], "composite_write"
    )
    verdicts = [classify_row(result.errors, VERSION_FIELD) for result in row_results(answer, rows)]
    assert [(verdict.action, verdict.reason) for verdict in verdicts] == [
        (Action.DONE, "done"),
        (Action.DEAD_LETTER, "invalid_email_address"),
        (Action.DEAD_LETTER, "string_too_long"),
        (Action.DEAD_LETTER, "required_field_missing"),
        (Action.STRIP_FIELD, verdicts[4].reason),
    ]
    assert verdicts[4].fields == ("Title",)


async def test_an_older_version_is_refused_by_the_org_and_counts_as_stale(
    org: Org, client: SalesforceClient
) -> None:
    async def write(version: int) -> Action:
        rows = [lead(1, version)]
        (answer,) = await client.composite(
            [upsert_subrequest("Lead", KEY_FIELD, rows, "a")], "composite_write"
        )
        return classify_row(row_results(answer, rows)[0].errors, VERSION_FIELD).action

    assert [await write(5), await write(3), await write(5)] == [
        Action.DONE,
        Action.STALE,
        Action.DONE,
    ]


async def test_a_converted_lead_is_to_be_followed(org: Org, client: SalesforceClient) -> None:
    (answer,) = await client.composite([leads(1)], "composite_write")
    record_id = row_results(answer, range(1))[0].id
    assert record_id
    org.world.convert(record_id, None)
    rows = [("Lead", {"Id": record_id, "Phone": "1"})]
    (answer,) = await client.composite([update_subrequest(rows, "a")], "composite_write")
    assert (
        classify_row(row_results(answer, rows)[0].errors, VERSION_FIELD).action
        is Action.FOLLOW_CONVERTED
    )


async def test_a_record_deleted_since_it_was_found_is_to_be_looked_up_again(
    org: Org, client: SalesforceClient
) -> None:
    (answer,) = await client.composite([leads(1)], "composite_write")
    record_id = row_results(answer, range(1))[0].id
    assert record_id
    org.world.delete("Lead", record_id)
    rows = [("Lead", {"Id": record_id, "Phone": "1"})]
    (answer,) = await client.composite([update_subrequest(rows, "a")], "composite_write")
    assert (
        classify_row(row_results(answer, rows)[0].errors, VERSION_FIELD).action is Action.RETRY_ROW
    )


@pytest.mark.parametrize("key", ["duplicateResut", "duplicateResult"])
async def test_a_rule_that_blocks_names_the_one_to_adopt(
    org: Org, client: SalesforceClient, key: str
) -> None:
    org.world.replace(
        {
            "settings": {"duplicate_result_key": key},
            "leads": [{"LastName": "Doe", "Company": "Acme", "Email": "jo@acme.com"}],
            "duplicate_rules": [
                {
                    "name": "Leads_DR",
                    "sobject": "Lead",
                    "match_on": ["Email"],
                    "match_objects": ["Lead"],
                    "action": "Block",
                }
            ],
        }
    )
    rows = [{**lead(1), "Email": "jo@acme.com"}]
    (answer,) = await client.composite(
        [upsert_subrequest("Lead", KEY_FIELD, rows, "a")], "composite_write"
    )
    verdict = classify_row(row_results(answer, rows)[0].errors, VERSION_FIELD)
    assert verdict.action is Action.ADOPT_DUPLICATE
    assert [(match.sobject, match.rule) for match in verdict.duplicates] == [("Lead", "Leads_DR")]


@pytest.mark.parametrize(("allow_save", "saved"), [(True, True), (False, False)])
async def test_a_rule_that_alerts_is_saved_past_unless_the_header_forbids_it(
    org: Org, client: SalesforceClient, allow_save: bool, saved: bool
) -> None:
    org.world.replace(
        {
            "leads": [{"LastName": "Doe", "Company": "Acme", "Email": "jo@acme.com"}],
            "duplicate_rules": [
                {
                    "name": "Leads_DR",
                    "sobject": "Lead",
                    "match_on": ["Email"],
                    "match_objects": ["Lead"],
                    "action": "Alert",
                }
            ],
        }
    )
    rows = [{**lead(1), "Email": "jo@acme.com"}]
    headers = write_headers(allow_save=allow_save)
    (answer,) = await client.composite(
        [upsert_subrequest("Lead", KEY_FIELD, rows, "a", headers)], "composite_write"
    )
    assert row_results(answer, rows)[0].success is saved
    assert state(org.world)["auto_assign"] == {}


async def test_a_value_of_the_wrong_type_refuses_its_collection_which_is_to_be_bisected(
    org: Org, client: SalesforceClient
) -> None:
    rows = [lead(1), {**lead(2), VERSION_FIELD: "soon"}]
    good, bad = leads(10, "good", start=10), upsert_subrequest("Lead", KEY_FIELD, rows, "bad")
    one, other = await client.composite([good, bad], "composite_write")
    assert all(result.success for result in row_results(one, range(10)))
    with pytest.raises(RequestRejected) as raised:
        row_results(other, rows)
    assert raised.value.verdict.action is Action.BISECT


async def test_a_plus_in_an_address_is_found(org: Org, client: SalesforceClient) -> None:
    rows = [{**lead(1), "Email": "jo+news@acme.com"}]
    await client.composite([upsert_subrequest("Lead", KEY_FIELD, rows, "a")], "composite_write")
    (answer,) = await client.composite(
        [query_subrequest("SELECT Id FROM Lead WHERE Email IN ('jo+news@acme.com')", "q")],
        "composite_query",
    )
    assert len(query_page(answer).records) == 1


async def test_pages_of_a_query_are_all_read(org: Org, client: SalesforceClient) -> None:
    org.world.change_settings({"page_size": 200})
    for start in range(0, 1000, 200):
        await client.composite([leads(200, start=start)], "composite_write")
    soql = "SELECT Id FROM Lead"
    (answer,) = await client.composite([query_subrequest(soql, "q")], "composite_query")
    by_composite = await client.rest_of(answer)
    by_get = await client.query_all(soql)
    assert (
        len({record["Id"] for record in by_composite})
        == len({record["Id"] for record in by_get})
        == 1000
    )


async def test_requests_are_compressed(org: Org, client: SalesforceClient) -> None:
    await client.composite([leads(200)], "composite_write")
    assert state(org.world)["gzipped_requests"] == 1


async def test_limits_are_read(client: SalesforceClient) -> None:
    assert (await client.limits())["DailyApiRequests"].allowed == 100_000
    assert client.budget.usage is not None


async def test_answers_take_no_memory_until_the_collector_of_cycles_runs(org: Org) -> None:
    """The sink lets it run rarely, and an answer may be megabytes."""
    answers: list[weakref.ref[httpx.Response]] = []

    async def note(answer: httpx.Response) -> None:
        answers.append(weakref.ref(answer))

    async with org.client() as client:
        query = query_subrequest("SELECT Id FROM Contact", "ids")
        await client.composite([query], "query")  # after a login
        client._http.event_hooks["response"].append(note)
        gc.disable()
        try:
            for _ in range(3):
                await client.composite([query], "query")
            assert [answer() for answer in answers] == [None, None, None]
        finally:
            gc.enable()
