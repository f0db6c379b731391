"""Webhook destinations and grants by the Nylas SDK.

And the SDK's faults, each shown, so that its mending is noticed.
"""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nylas
import pytest
import requests
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result
from nylas.models.errors import NylasApiError

from connectors.nylas.administration import (
    Administration,
    SdkMoved,
    Secret,
    check,
)
from connectors.nylas.destinations import TRIGGERS, Destination
from connectors.nylas.errors import NotFound, Passing, RateLimited, Refused
from connectors.nylas.simulator import app
from connectors.nylas.simulator.world import World
from streams.cli import main
from streams.commands import webhooks
from streams.commands.webhook_secrets import with_secret

KEY = "sim-api-key"


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    async with TestServer(application) as server:
        yield str(server.make_url("/")).rstrip("/")


def receiver(status: int = 200) -> web.Application:
    """Our endpoint, as far as Nylas' challenge goes."""

    async def challenge(request: web.Request) -> web.Response:
        return web.Response(status=status, text=request.query.get("challenge", ""))

    application = web.Application()
    application.router.add_get("/webhook", challenge)
    return application


def answering(
    status: int, body: bytes, seen: list[tuple[str, str]] | None = None
) -> web.Application:
    async def handle(request: web.Request) -> web.Response:
        if seen is not None:
            seen.append((request.method, request.raw_path))
        return web.Response(status=status, body=body)

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    return application


async def asked(url: str, call: Callable[[Administration], Any], key: str = KEY) -> Any:
    return await asyncio.to_thread(lambda: call(Administration(url, key)))


async def sdk(url: str, call: Callable[[nylas.Client], Any]) -> Any:
    return await asyncio.to_thread(lambda: call(nylas.Client(api_key=KEY, api_uri=url, timeout=5)))


async def test_a_destination_is_created_listed_and_given_a_new_secret() -> None:
    state = World.from_json({})
    async with serving(receiver()) as ours, serving(app(state)) as url:
        created = await asked(
            url, lambda nylas: nylas.create(f"{ours}/webhook", compressed=True, description="cs")
        )
        listed = await asked(url, lambda nylas: nylas.destinations())
        rotated = await asked(url, lambda nylas: nylas.rotate(created.destination.id))
    assert listed == [
        Destination(
            created.destination.id, f"{ours}/webhook", "active", TRIGGERS, "cs", compressed=True
        )
    ]
    assert created.value != rotated.value
    assert [one.secret for one in state.destinations.values()] == [rotated.value]
    assert created.value not in repr(created)


async def test_an_endpoint_that_does_not_answer_the_challenge_is_refused_with_nylas_words() -> None:
    async with serving(receiver(404)) as ours, serving(app(World.from_json({}))) as url:
        with pytest.raises(Refused, match=r"unable.verify.webhook_url"):
            await asked(url, lambda nylas: nylas.create(f"{ours}/webhook", compressed=False))


async def test_every_grant_is_listed_with_what_keeps_it_from_being_read() -> None:
    grants = [
        {"id": f"g{number}", "email": f"{number}@x.com", "created_at": 1_700_000_000 + number}
        for number in range(450)
    ]
    async with serving(app(World.from_json({"grants": grants}))) as url:
        listed = await asked(url, lambda nylas: nylas.grants())
    assert [grant.id for grant in listed] == [f"g{number}" for number in range(450)]
    body = json.dumps(
        {"request_id": "r", "data": [{"id": "g", "provider": "google", "blocked": True}]}
    ).encode()
    async with serving(answering(200, body)) as url:
        (blocked,) = await asked(url, lambda nylas: nylas.grants())
    assert blocked.blocked


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, b"<html>502</html>", Passing),
        (504, b"", Passing),
        (500, b'{"request_id": "r", "error": "a text"}', Passing),
        (200, b"[]", Passing),
        (200, b'{"request_id": "r", "data": {}}', Passing),
        (429, b'{"request_id": "r", "error": {"type": "t", "message": "m"}}', RateLimited),
        (404, b'{"request_id": "r", "error": {"type": "t", "message": "m"}}', NotFound),
        (401, b'{"request_id": "r", "error": {"type": "unauthorized", "message": "m"}}', Refused),
    ],
)
async def test_every_fault_is_told_as_ours(
    status: int, body: bytes, error: type[Exception]
) -> None:
    async with serving(answering(status, body)) as url:
        with pytest.raises(error):
            await asked(url, lambda nylas: nylas.destinations())


async def test_nobody_there_is_a_fault_that_passes() -> None:
    with pytest.raises(Passing, match="no answer"):
        await asked("http://127.0.0.1:9", lambda nylas: nylas.destinations())


@pytest.fixture
def _no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RECONCILE_REQUEST_SECONDS", 0.3)  # nobody answers there
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")


async def command(url: str, *arguments: str) -> Result:
    environ = {"NYLAS_API_URL": url, "NYLAS_API_KEY": KEY}
    return await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=environ)


@pytest.mark.usefixtures("_no_kafka")
async def test_the_commands_write_the_new_secret_before_the_old_one_and_for_nobody_else(
    tmp_path: Path,
) -> None:
    state, file = World.from_json({}), tmp_path / "secrets"
    async with serving(receiver()) as ours, serving(app(state)) as url:
        run = partial(command, url)
        assert (await run("webhooks", "check")).exit_code == 1
        created = await run("webhooks", "create", f"{ours}/webhook", "--secret-file", str(file))
        assert created.exit_code == 0, created.output
        ((name, destination),) = state.destinations.items()
        first = destination.secret
        assert file.read_text() == f"{first} # {name}\n"
        assert first not in created.output
        rotated = await run("webhooks", "rotate", name, "--secret-file", str(file))
        assert rotated.exit_code == 0, rotated.output
        assert file.read_text() == f"{destination.secret} # {name}\n{first} # {name}\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (await run("webhooks", "check")).exit_code == 0
        assert name in (await run("webhooks", "list")).output
        destination.status = "failed"
        failed = await run("webhooks", "check", "--url", f"{ours}/webhook")
        assert failed.exit_code == 1
        assert "contactstream reconcile --all" in failed.output
        assert (
            await run("webhooks", "rotate", "nothing", "--secret-file", str(file))
        ).exit_code == 1
        assert (
            await run("webhooks", "rotate", name, "--secret-file", str(tmp_path / "no" / "f"))
        ).exit_code == 1
        printed = await run("webhooks", "rotate", name)
        assert destination.secret in printed.output


@pytest.mark.usefixtures("_no_kafka")
async def test_a_secret_that_cannot_be_written_is_printed_as_the_last_resort(
    tmp_path: Path,
) -> None:
    state, file = World.from_json({}), tmp_path / "secrets"
    (
        tmp_path / "secrets.new"
    ).mkdir()  # as good as a full disk: what is there before the call can be written
    async with serving(receiver()) as ours, serving(app(state)) as url:
        created = await command(
            url, "webhooks", "create", f"{ours}/webhook", "--secret-file", str(file)
        )
        ((name, destination),) = state.destinations.items()
        first = destination.secret
        assert created.exit_code == 1
        assert created.stdout == f"{first}\n"
        file.write_bytes(b"\xff")  # nor is that a text
        rotated = await command(url, "webhooks", "rotate", name, "--secret-file", str(file))
    assert rotated.exit_code == 1
    assert rotated.stdout == f"{destination.secret}\n"
    assert destination.secret != first
    for said in (created.stderr, rotated.stderr):
        assert f"{file} could not be written" in said
        assert "Nylas does not show it again" in said
    assert "contactstream reconcile --all" in rotated.stderr, (
        "what is refused meanwhile has to be read all the same"
    )


@pytest.mark.usefixtures("_no_kafka")
async def test_a_rotation_without_kafka_says_what_to_run_once_the_secret_is_everywhere(
    tmp_path: Path,
) -> None:
    state = World.from_json({})
    async with serving(receiver()) as ours, serving(app(state)) as url:
        await command(url, "webhooks", "create", f"{ours}/webhook")
        (name,) = state.destinations
        rotated = await command(
            url, "webhooks", "rotate", name, "--secret-file", str(tmp_path / "secrets")
        )
    assert rotated.exit_code == 0
    assert "answers 401, and Nylas does not repeat" in rotated.stderr
    assert "could not request the reconcile" in rotated.stderr
    assert "has the new secret, run: contactstream reconcile --all" in rotated.stderr
    assert rotated.stdout == "", "a script reads the secret there"


async def test_a_dry_run_of_a_rotation_changes_nothing(tmp_path: Path) -> None:
    state, file = World.from_json({}), tmp_path / "secrets"
    async with serving(receiver()) as ours, serving(app(state)) as url:
        await command(url, "webhooks", "create", f"{ours}/webhook")
        ((name, destination),) = state.destinations.items()
        first = destination.secret
        said = await command(
            url, "webhooks", "rotate", name, "--dry-run", "--secret-file", str(file)
        )
        unknown = await command(url, "webhooks", "rotate", "other", "--dry-run")
    assert (said.exit_code, unknown.exit_code) == (0, 1)
    assert (
        f"{name} (active, {ours}/webhook) would get a new secret, written to {file}" in said.output
    )
    assert "15 minutes later every address book would be read again" in said.output
    assert "Nylas has no destination other" in unknown.output
    assert destination.secret == first
    assert not file.exists()


def test_only_the_last_two_secrets_of_the_only_destination_are_kept() -> None:
    secret = Secret(Destination("d", "https://x", "active", TRIGGERS), "a")
    assert with_secret("", secret, only_one=True) == "a # d\n"
    assert with_secret("b,c\ne", secret, only_one=True) == "a # d\nb\n"
    assert with_secret("a\nb\n", secret, only_one=True) == "a # d\nb\n"


@pytest.mark.parametrize("status", ["failing", "failed", "pause", "new"])
def test_an_endpoint_in_trouble_is_named_with_what_to_do(status: str) -> None:
    (finding,) = check([Destination("d", "https://x", status, TRIGGERS)])
    assert finding.destination == "d"
    assert finding.remedy


def test_a_missing_trigger_and_a_second_destination_are_findings() -> None:
    fine = Destination("d", "https://x", "active", TRIGGERS)
    assert check([fine]) == []
    assert check([fine, Destination("other", "https://y", "failed", ("message.created",))]) == []
    (partly,) = check([Destination("d", "https://x", "active", TRIGGERS[:4])])
    assert "grant.expired, grant.deleted" in partly.problem
    (twice,) = check([fine, Destination("e", "https://x", "active", TRIGGERS)])
    assert "d, e" in twice.destination
    (none,) = check([fine], url="https://elsewhere")
    assert "webhooks create" in none.remedy


def mended(what: str, remove: str) -> str:
    return (
        f"the SDK has mended this: {what}. In connectors/nylas/administration.py, {remove}; "
        "then drop this test"
    )


async def still_raises(
    error: type[Exception], url: str, call: Callable[[nylas.Client], Any], otherwise: str
) -> None:
    """Fails with `otherwise` unless the SDK raises `error` itself, as it does today."""
    try:
        answer = await sdk(url, call)
    except Exception as raised:  # noqa: BLE001
        if type(raised) is not error:
            pytest.fail(f"{otherwise} (it raised {raised!r})")
    else:
        pytest.fail(f"{otherwise} (it answered {answer!r})")


async def test_the_sdk_still_rotates_at_a_path_that_does_not_exist() -> None:
    otherwise = mended("rotate_secret() asks at another path", "see whether `rotate` may call it")
    seen: list[tuple[str, str]] = []
    async with serving(
        answering(404, b'{"request_id": "r", "error": {"type": "t", "message": "m"}}', seen)
    ) as url:
        await still_raises(
            NylasApiError, url, lambda client: client.webhooks.rotate_secret("d"), otherwise
        )
    assert seen == [("PUT", "/v3/webhooks/d/rotate-secret")], otherwise


async def test_the_sdk_still_fails_on_a_trigger_that_it_does_not_know() -> None:
    otherwise = mended(
        "a trigger that it does not know passes",
        "see whether `destinations` may call webhooks.list()",
    )
    destination = {
        "id": "d",
        "webhook_url": "https://x",
        "status": "active",
        "trigger_types": ["grant.imap_sync_completed"],
        "notification_email_addresses": [],
        "status_updated_at": 1,
        "created_at": 1,
        "updated_at": 1,
    }
    async with serving(
        answering(200, json.dumps({"request_id": "r", "data": [destination]}).encode())
    ) as url:
        await still_raises(ValueError, url, lambda client: client.webhooks.list(), otherwise)
        assert (await asked(url, lambda nylas: nylas.destinations()))[0].triggers == (
            "grant.imap_sync_completed",
        )


async def test_the_sdk_still_loses_the_secret_of_a_destination_whose_answer_lacks_a_field() -> None:
    otherwise = mended(
        "webhooks.create() takes what the schema allows", "see whether `create` may call it"
    )
    created = {
        "id": "d",
        "webhook_url": "https://x",
        "status": "active",
        "trigger_types": [],
        "webhook_secret": "s",
    }
    body = {"webhook_url": "https://x", "trigger_types": []}
    async with serving(
        answering(200, json.dumps({"request_id": "r", "data": created}).encode())
    ) as url:
        await still_raises(KeyError, url, lambda client: client.webhooks.create(body), otherwise)
        assert (
            await asked(url, lambda nylas: nylas.create("https://x", compressed=False))
        ).value == "s"


async def test_the_sdk_still_does_not_say_whether_a_destination_is_compressed() -> None:
    otherwise = mended(
        "its Webhook has compressed_delivery", "see whether its model may replace `Destination`"
    )
    destination = {
        "id": "d",
        "webhook_url": "https://x",
        "status": "active",
        "trigger_types": [],
        "notification_email_addresses": [],
        "status_updated_at": 1,
        "created_at": 1,
        "updated_at": 1,
        "compressed_delivery": True,
    }
    async with serving(
        answering(200, json.dumps({"request_id": "r", "data": [destination]}).encode())
    ) as url:
        listed = await sdk(url, lambda client: client.webhooks.list())
        assert not hasattr(listed.data[0], "compressed_delivery"), otherwise
        assert (await asked(url, lambda nylas: nylas.destinations()))[0].compressed is True


async def test_the_sdk_still_does_not_encode_an_id() -> None:
    otherwise = mended(
        "it encodes the IDs in a path", "drop `path_part` where the SDK builds the path"
    )
    seen: list[tuple[str, str]] = []
    async with serving(answering(404, b"{}", seen)) as url:
        await still_raises(
            NylasApiError, url, lambda client: client.webhooks.find("a/b"), otherwise
        )
        with pytest.raises(NotFound):
            await asked(url, lambda nylas: nylas.rotate("a/b"))
    assert seen[0][1] == "/v3/webhooks/a/b", otherwise
    assert seen[1][1] == "/v3/webhooks/rotate-secret/a%2Fb"


async def test_the_sdk_still_lets_other_errors_through_as_they_come() -> None:
    def otherwise(fault: str) -> str:
        return mended(f"{fault} is an error of its own", "catch that one in `_call` instead")

    def ask(client: nylas.Client) -> Any:
        return client.webhooks.list()

    refused = otherwise("a refused connection")
    await still_raises(requests.exceptions.ConnectionError, "http://127.0.0.1:9", ask, refused)
    async with serving(answering(502, b"<html>")) as url:
        await still_raises(
            requests.exceptions.JSONDecodeError, url, ask, otherwise("a body that is not JSON")
        )
    async with serving(answering(500, b'{"request_id": "r", "error": "a text"}')) as url:
        await still_raises(AttributeError, url, ask, otherwise("an error that is a text"))


async def test_the_sdk_still_drops_that_a_grant_is_blocked() -> None:
    body = json.dumps(
        {"request_id": "r", "data": [{"id": "g", "provider": "google", "blocked": True}]}
    ).encode()
    async with serving(answering(200, body)) as url:
        listed = await sdk(url, lambda client: client.grants.list())
    assert not hasattr(listed.data[0], "blocked"), mended(
        "its Grant has blocked", "see whether `grants` may use it"
    )


class Moved:
    """An SDK whose private transport is not what it was."""

    def __init__(self, execute: Callable[..., Any] | None) -> None:
        self.http_client = SimpleNamespace(**({} if execute is None else {"_execute": execute}))


@pytest.mark.parametrize(
    ("execute", "said"),
    [
        (None, "has no http_client._execute"),
        (lambda method, url: None, "has another http_client._execute"),
        (lambda method, path, query_params, request_body: {"data": []}, "returns something else"),
    ],
)
def test_an_sdk_whose_private_part_has_moved_is_told_and_not_taken_for_a_fault_of_nylas(
    monkeypatch: pytest.MonkeyPatch, execute: Callable[..., Any] | None, said: str
) -> None:
    monkeypatch.setattr(nylas, "Client", lambda **_: Moved(execute))
    with pytest.raises(SdkMoved, match=said) as raised:
        Administration("https://nylas.example", KEY).destinations()
    assert "deploy/requirements.lock" in str(raised.value)
    assert not isinstance(raised.value, Passing)
    environ = {"NYLAS_API_URL": "https://nylas.example", "NYLAS_API_KEY": KEY}
    result = CliRunner().invoke(main, ["webhooks", "list"], env=environ)
    assert result.exit_code == 1
    assert said in result.output
