"""A rotated refresh token is kept, survives a restart, and is never lost without a word."""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from aiohttp.test_utils import TestServer

from connectors.salesforce.api import auth
from connectors.salesforce.api.auth import RefreshToken, Session
from connectors.salesforce.api.errors import OrgUnavailable
from connectors.salesforce.api.refresh_token_file import RefreshTokenFile
from connectors.salesforce.simulator.server import app
from connectors.salesforce.simulator.world import World

FIRST = "hush-first"
Org = tuple[World, RefreshToken, httpx.AsyncClient]


@asynccontextmanager
async def rotating_org(rotates: bool = True) -> AsyncIterator[Org]:
    world = World({"auth": {"refresh_token": FIRST, "rotate_refresh_token": rotates}})
    async with TestServer(app(world)) as server, httpx.AsyncClient() as http:
        url = str(server.make_url("")).rstrip("/")
        yield world, RefreshToken("client", FIRST, login_url=url), http


def logged_in_with(world: World) -> str:
    """The refresh token that the org takes now."""
    return world.auth.refresh_token


async def test_a_rotated_token_is_kept_and_used_after_a_restart(tmp_path: Path) -> None:
    store = RefreshTokenFile(tmp_path / "token")
    async with rotating_org() as (world, login, http):
        login = replace(login, store=store)
        for _ in range(3):  # each is a start
            session = Session(login, http)
            token = await session.token()
            await session.refresh(token)
        assert world.tokens_issued == 6
        assert store.load(FIRST) == logged_in_with(world) != FIRST
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == [".token.lock", "token"]


async def test_processes_with_one_login_follow_each_other(tmp_path: Path) -> None:
    async with rotating_org() as (_, login, http):
        login = replace(login, store=RefreshTokenFile(tmp_path / "token"))
        sink, doctor = Session(login, http), Session(login, http)
        token = await sink.token()
        await doctor.token()
        assert await sink.refresh(token) is not token


async def test_without_a_file_a_rotating_app_is_refused_with_what_to_do() -> None:
    async with rotating_org() as (_, login, http):
        session = Session(login, http)
        for _ in range(2):
            with pytest.raises(OrgUnavailable, match="SALESFORCE_REFRESH_TOKEN_STORE") as raised:
                await session.token()
            assert raised.value.reason == "login"
            assert "hush" not in str(raised.value)


async def test_an_app_that_does_not_rotate_needs_no_file() -> None:
    async with rotating_org(rotates=False) as (_, login, http):
        session = Session(login, http)
        await session.refresh(await session.token())


async def test_processes_that_log_in_at_once_use_no_token_twice(tmp_path: Path) -> None:
    async with rotating_org() as (world, login, http):
        login = replace(login, store=RefreshTokenFile(tmp_path / "token"))
        await asyncio.gather(*(Session(login, http).token() for _ in range(4)))
        assert (world.tokens_issued, len(world.tokens)) == (4, 4), "nothing is revoked"


async def test_a_login_that_hangs_in_another_process_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "LOGIN_SECONDS", 0.2)
    monkeypatch.setattr(auth, "LOCK_RETRY_SECONDS", 0.05)
    store = RefreshTokenFile(tmp_path / "token")
    async with rotating_org() as (_, login, http):
        session = Session(replace(login, store=store), http)
        with store.try_lock(), pytest.raises(OrgUnavailable, match="another process"):
            await session.token()


class FullDisk(RefreshTokenFile):
    """A file on a disk that is full while it is empty."""

    def keep(self, configured: str, rotated: str) -> None:
        if not self.path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        super().keep(configured, rotated)


async def test_a_token_that_cannot_be_kept_is_not_lost_while_the_process_runs(
    tmp_path: Path,
) -> None:
    store = FullDisk(tmp_path / "token")
    async with rotating_org() as (world, login, http):
        session = Session(replace(login, store=store), http)
        for _ in range(2):
            with pytest.raises(OrgUnavailable, match="No space left") as raised:
                await session.token()
            assert str(store.path) in str(raised.value)
            assert "simulated" not in str(raised.value)
        store.path.touch()
        await session.token()
        assert store.load(FIRST) == logged_in_with(world)


async def test_no_token_is_spent_where_the_folder_is_missing(tmp_path: Path) -> None:
    store = RefreshTokenFile(tmp_path / "gone" / "token")
    async with rotating_org() as (world, login, http):
        with pytest.raises(OrgUnavailable, match=str(store.path)):
            await Session(replace(login, store=store), http).token()
        assert world.tokens_issued == 0


async def test_a_token_that_the_operator_configures_anew_wins(tmp_path: Path) -> None:
    store = RefreshTokenFile(tmp_path / "token")
    async with rotating_org() as (world, login, http):
        await Session(replace(login, store=store), http).token()
        world.auth.refresh_token = "hush-second"
        await Session(replace(login, refresh_token="hush-second", store=store), http).token()
        assert store.load("hush-second") == logged_in_with(world)
        assert store.load(FIRST) is None


@pytest.mark.parametrize("text", ["{", "[]", '"token"', '{"refresh_token": 1}'])
async def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    store = RefreshTokenFile(tmp_path / "token")
    store.path.write_text(text)
    async with rotating_org() as (world, login, http):
        with pytest.raises(OrgUnavailable, match=str(store.path)):
            await Session(replace(login, store=store), http).token()
        assert world.tokens_issued == 0, "no token is spent that could not be kept"
    assert store.path.read_text() == text


def test_a_file_that_is_empty_or_absent_holds_no_token(tmp_path: Path) -> None:
    store = RefreshTokenFile(tmp_path / "token")
    assert store.load(FIRST) is None
    store.path.touch()
    assert store.load(FIRST) is None


def test_no_token_is_printed(tmp_path: Path) -> None:
    login = RefreshToken("client", FIRST, store=RefreshTokenFile(tmp_path / "token"))
    assert "hush" not in repr(login)
