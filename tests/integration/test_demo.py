"""`contactstream demo`, run as a user runs it, with every number checked."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.broker import Served, answers
from tests.support.children import child_command
from tests.support.docs import block, missing_lines, printed_report
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.paths import ROOT
from tests.support.processes import MACHINE_VARIABLES
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

# The demo takes half a minute on an idle machine. Each of its own bounds is shorter than this.
DEMO_SECONDS = 500.0
# Settings of a user's own deployment, none of which the demo may use.
USERS_SETTINGS = {
    "NYLAS_API_KEY": "nyk_of_the_user",
    "NYLAS_API_URL": "https://api.eu.nylas.com",
    "SALESFORCE_LOGIN_URL": "https://the-users-own.example",
    "SALESFORCE_USERNAME": "somebody@example.com",
    "PEOPLE_CREATE": "nothing",
    "PEOPLE_ON_DELETE": "keep",
    "SINK_BATCH_SIZE": "1",
    "KAFKA_TOPIC_PREFIX": "production.",
    "KAFKA_EVENTS_PARTITIONS": "7",
    "CONTACTSTREAM_CONFIG": "/nowhere",
}


def demo(
    folder: Path, *words: str, environ: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Starts `contactstream demo ...`; its folders are below `folder`, its stderr in `messages`."""
    temporary = folder / "temporary"
    temporary.mkdir()
    given = {name: os.environ[name] for name in MACHINE_VARIABLES if name in os.environ}
    with (folder / "messages").open("w") as messages:
        return subprocess.Popen(
            child_command([sys.executable, "-m", "streams.cli", "demo", *words]),
            env={**given, **(environ or {}), "TMPDIR": str(temporary)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )


def ended(process: "subprocess.Popen[str]", folder: Path) -> tuple[int, str, str]:
    """The exit code, stdout and stderr. Checks that no process is left."""
    with process:
        try:
            out, _ = process.communicate(timeout=DEMO_SECONDS)
        finally:
            process.kill()
    wait_until(lambda: not started_in(folder), "every process has ended")
    return process.returncode, out, (folder / "messages").read_text()


def started_in(folder: Path) -> list[psutil.Process]:
    """The processes of a demo, by the folder that they all were given."""

    def is_one(process: psutil.Process) -> bool:
        try:
            return process.environ().get("TMPDIR") == str(folder / "temporary")
        except psutil.Error:  # it ended meanwhile, or is somebody else's
            return False

    return [process for process in psutil.process_iter() if is_one(process)]


def topic_prefix(folder: Path) -> str:
    """The prefix of a demo's topics, as its processes were given it; empty before."""
    for process in started_in(folder):
        with contextlib.suppress(psutil.Error):  # it has ended
            if prefix := process.environ().get("KAFKA_TOPIC_PREFIX"):
                return prefix
    return ""


def test_the_whole_product_runs_and_every_number_adds_up(tmp_path: Path) -> None:
    status, out, messages = ended(demo(tmp_path, "--json", environ=USERS_SETTINGS), tmp_path)
    assert status == 0, f"{messages}\n{out}"
    figures: dict[str, Any] = json.loads(out)
    assert figures["problems"] == []
    assert figures["broker"] in ("docker", "kafka")
    assert figures["nylas"]["sent"] == {
        "change": 40,
        "exact duplicate": 15,
        "same content, new event": 5,
        "no mapped field changed": 20,
        "older after newer": 8,
        "bad signature": 3,
        "new person": 10,
        "deleted": 5,
    }
    assert figures["bridge"]["outcomes"]["bad_signature"] == 3
    assert figures["bridge"]["outcomes"]["published"] >= 103
    assert figures["reader"]["contacts"] == {"backfill": 2000}
    dedupe = figures["dedupe"]
    assert dedupe["forwarded"] == {"updated": 2000 + 40 + 10, "deleted": 5}
    assert dedupe["dropped"]["duplicate"] == 20 + 5
    assert dedupe["dropped"]["stale"] >= 8
    assert dedupe["dropped"]["retry"] >= 15
    assert (dedupe["dead_lettered"], dedupe["refetch"]) == (0, {})

    sink = figures["sink"]
    assert sink["taken"] - sink["coalesced"] == sum(sink["outcomes"].values())
    assert sink["outcomes"]["released"] == 5
    assert "failed" not in sink["outcomes"]
    assert (
        min(
            sink["outcomes_by_object"][what][name]
            for what in ("created", "updated")
            for name in ("Contact", "Lead")
        )
        > 0
    )
    assert min(sink["matched"][how] for how in ("key", "email", "converted_lead")) > 0
    assert sink["error_rate"] == 0
    assert (
        0.2 < sink["match_rate"] < 0.4
    )  # a fifth of the people was there, and some are in two books

    org = figures["salesforce"]
    assert org["calls_first_sync_total"] == sum(org["calls_first_sync"].values()) <= 12
    assert org["calls_of_the_one_patch_per_contact_recipe"] >= 2103
    for name in ("Contact", "Lead"):
        assert (
            org["records_after"][name]
            == org["records_before"][name] + sink["outcomes_by_object"]["created"][name]
        )
    assert org["titles_compared"] == 9
    assert figures["topics"]["contacts.dead-letter"] == 0
    assert list((tmp_path / "temporary").iterdir()) == [], "nothing is left behind"

    # Nylas repeats a notification that got no 200 in time, and then some counts are higher.
    repeated = sum(figures["bridge"]["answers"].values()) > sum(figures["nylas"]["sent"].values())
    printed = messages + printed_report(figures)
    shown = block("README.md", "demo")
    assert missing_lines(shown, printed, exact=not repeated) == [], "README.md shows other lines"


def test_a_given_cluster_is_used_and_left_as_it_was(kafka_server: Served, tmp_path: Path) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap}
    process = demo(tmp_path, "--json", "--people", "200", environ=given)
    # Another demo may run on the same cluster.
    prefix = wait_until(lambda: topic_prefix(tmp_path), "it has chosen a prefix", DEMO_SECONDS)
    ours = Kafka(kafka_server.bootstrap, prefix)

    def left() -> list[str]:
        admin = ours.admin()
        found = admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result().valid
        names = [
            *admin.list_topics(timeout=REQUEST_SECONDS).topics,
            *(one.group_id for one in found),
        ]
        return [name for name in names if name.startswith(prefix)]

    wait_until(left, "its topics are there", DEMO_SECONDS)
    status, out, messages = ended(process, tmp_path)
    assert status == 0, f"{messages}\n{out}"
    assert json.loads(out)["broker"] == "given"
    assert left() == []
    assert answers(kafka_server.bootstrap, 10.0)


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def test_with_stay_it_prints_where_to_look_and_runs_until_a_signal(
    kafka_server: Served, tmp_path: Path
) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap}
    process = demo(tmp_path, "--stay", "--people", "200", environ=given)
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:  # ends with the demo, whose own bounds are shorter than the test's
        printed += line
        if line.startswith("  SALESFORCE_LOGIN_URL"):
            break
    assert "every number adds up" in printed
    places = dict(re.findall(r"^  (\w+) +(http\S+/metrics)$", printed, re.MULTILINE))
    assert places.keys() == {"bridge", "reader", "dedupe", "sink", "console"}, printed
    for stage, url in places.items():
        assert f'stage="{stage}"' in page(url)
    seen = dict(re.findall(r"^  (console|prometheus) +(http\S+/)$", printed, re.MULTILINE))
    assert "Nothing is paused." in page(seen["console"])
    if shutil.which("prometheus"):
        query = f"{seen['prometheus']}api/v1/query?query=sum(up)"
        scraped = wait_until(
            lambda: json.loads(page(query))["data"]["result"], "Prometheus has scraped", 60
        )
        assert scraped
        wait_until(
            lambda: json.loads(page(query))["data"]["result"][0]["value"][1] == "5",
            "every process is scraped",
            60,
        )
        assert "ContactstreamNoProgress" in page(f"{seen['prometheus']}api/v1/rules")
    process.send_signal(signal.SIGINT)
    status, _, messages = ended(process, tmp_path)
    assert status == 0, messages


def test_a_cluster_that_the_demo_cannot_use_ends_it_with_2_and_a_reason(tmp_path: Path) -> None:
    secured = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "ada",
        "KAFKA_SASL_PASSWORD": "secret",
    }
    status, out, messages = ended(demo(tmp_path, "--json", environ=secured), tmp_path)
    assert (status, out) == (2, "")
    assert "wants SASL_SSL, and the demo speaks only PLAINTEXT" in messages
    assert "Traceback" not in messages


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_every_process_and_says_where_the_logs_are(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = demo(tmp_path, "--json")
    wait_until(
        lambda: list((tmp_path / "temporary").glob("contactstream-demo-*/nylas.out")),
        "it is on its way",
        DEMO_SECONDS,
    )
    process.send_signal(number)
    status, out, messages = ended(process, tmp_path)
    assert (status, out) == (130, "")
    assert "the logs are in " in messages
    assert "Traceback" not in messages
