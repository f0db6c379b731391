"""The simulators as containers run them: with the demo's data, and a webhook from the start."""

import asyncio
import hashlib
import hmac
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from click.testing import CliRunner

from streams.cli import main
from streams.demo.notifications import send
from streams.demo.scenario import API_KEY, initial_data
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES

pytestmark = pytest.mark.slow

PEOPLE = 40
# Imports on a busy machine, or an orderly stop.
START_SECONDS = 60.0


@contextmanager
def simulator(*words: str) -> Iterator[str]:
    """The URL of `contactstream simulate <words>`, which runs until the end of the block."""
    kept = {name: value for name, value in os.environ.items() if name in MACHINE_VARIABLES}
    with subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "simulate", *words],
        env=kept,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().rpartition(" ")[2]
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_SECONDS) == 0
        finally:
            process.kill()


def test_the_simulated_org_starts_with_the_records_of_the_demo() -> None:
    _, org = initial_data(PEOPLE, 1)
    with simulator("salesforce", "--people", str(PEOPLE)) as url:
        records = httpx.get(f"{url}/_sim/state", trust_env=False).json()["records"]
    assert (records["Account"], records["Contact"], records["Lead"]) == (
        len(org["accounts"]),
        len(org["contacts"]),
        len(org["leads"]),
    )


async def test_the_simulated_nylas_sends_the_notifications_signed_to_the_webhook(
    tmp_path: Path,
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text("the-secret\n")
    good, forged = 0, 0

    async def receive(request: web.Request) -> web.Response:
        nonlocal good, forged
        body = await request.read()
        expected = hmac.new(b"the-secret", body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(expected, request.headers.get("x-nylas-signature", ""))
        good, forged = good + signed, forged + (not signed)
        return web.Response(status=200 if signed else 401)

    # The bridge needs the bytes as they were signed, so aiohttp must not unpack them.
    runner = web.AppRunner(bridge := web.Application(), auto_decompress=False)
    bridge.router.add_post("/", receive)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    webhook = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    words = ("nylas", "--people", str(PEOPLE), "--webhook", webhook)
    started = simulator(*words, "--webhook-secret-file", str(secret_file))
    url = await asyncio.to_thread(started.__enter__)
    try:
        sent = await send(url, API_KEY, PEOPLE, 1)
    finally:
        await asyncio.to_thread(started.__exit__, None, None, None)
        await runner.cleanup()
    assert forged == 3  # the scenario's bad signatures
    assert good == sent - forged


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nylas", "--webhook", "http://x/"), "--webhook goes with --people"),
        (("nylas", "--people", "40", "--webhook", "http://x/"), "needs --webhook-secret-file"),
        (("salesforce", "--people", "40", "--world", str(ROOT / "README.md")), "two initial"),
        (("notifications",), "Missing option '--people'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...], said: str) -> None:
    refused = CliRunner().invoke(main, ["simulate", *words])
    assert refused.exit_code == 2
    assert said in refused.output
