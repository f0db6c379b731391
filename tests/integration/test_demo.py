"""`contactstream demo`, the product's face: run as a user runs it, with every number looked at."""

import json
import os
import re
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
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.paths import ROOT
from tests.support.processes import OF_THE_MACHINE
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

SECONDS = 500.0  # half a minute on an idle machine; its own bounds are shorter each
# what somebody may have set up for a deployment of their own; none of it is for the demo
ONLY_THEIRS = {
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
    """`contactstream demo ...` whose folders are made below `folder`; what it says to people goes
    to `folder/said`.
    """
    temporary = folder / "temporary"
    temporary.mkdir()
    given = {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            child_command([sys.executable, "-m", "streams.cli", "demo", *words]),
            env={**given, **(environ or {}), "TMPDIR": str(temporary)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )


def ended(process: "subprocess.Popen[str]", folder: Path) -> tuple[int, str, str]:
    """Status, what it printed, and what it said to people. It leaves no process."""
    with process:
        try:
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    wait_until(lambda: not started_in(folder), "every process has ended")
    return process.returncode, out, (folder / "said").read_text()


def started_in(folder: Path) -> list[psutil.Process]:
    """The processes of a demo, by the folder that they all were given."""

    def is_one(process: psutil.Process) -> bool:
        try:
            return process.environ().get("TMPDIR") == str(folder / "temporary")
        except psutil.Error:  # it ended meanwhile, or is somebody else's
            return False

    return [process for process in psutil.process_iter() if is_one(process)]


def test_the_whole_product_runs_and_every_number_adds_up(tmp_path: Path) -> None:
    status, out, said = ended(demo(tmp_path, "--json", environ=ONLY_THEIRS), tmp_path)
    assert status == 0, f"{said}\n{out}"
    told: dict[str, Any] = json.loads(out)
    assert told["problems"] == []
    assert told["broker"] in ("docker", "kafka")
    assert told["nylas"]["sent"] == {
        "change": 40,
        "exact duplicate": 15,
        "same content, new event": 5,
        "nothing that we map": 20,
        "older after newer": 8,
        "bad signature": 3,
        "new person": 10,
        "deleted": 5,
    }
    assert told["bridge"]["outcomes"]["bad_signature"] == 3
    assert told["bridge"]["outcomes"]["published"] >= 103
    assert told["reader"]["contacts"] == {"backfill": 2000}
    dedupe = told["dedupe"]
    assert dedupe["forwarded"] == {"updated": 2000 + 40 + 10, "deleted": 5}
    assert dedupe["dropped"]["duplicate"] == 20 + 5
    assert dedupe["dropped"]["stale"] >= 8
    assert dedupe["dropped"]["retry"] >= 15
    assert (dedupe["dead_lettered"], dedupe["refetch"]) == (0, {})

    sink = told["sink"]
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

    org = told["salesforce"]
    assert org["calls_first_sync_total"] == sum(org["calls_first_sync"].values()) <= 12
    assert org["calls_of_the_one_patch_per_contact_recipe"] >= 2103
    for name in ("Contact", "Lead"):
        assert (
            org["records_after"][name]
            == org["records_before"][name] + sink["outcomes_by_object"]["created"][name]
        )
    assert org["titles_compared"] == 9
    assert told["topics"]["contacts.dead-letter"] == 0
    assert list((tmp_path / "temporary").iterdir()) == [], "nothing is left behind"


def test_a_given_cluster_is_used_and_left_as_it_was(kafka_server: Served, tmp_path: Path) -> None:
    ours = Kafka(kafka_server.bootstrap, "demo-")

    def left() -> list[str]:
        admin = ours.admin()
        found = admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result().valid
        names = [
            *admin.list_topics(timeout=REQUEST_SECONDS).topics,
            *(one.group_id for one in found),
        ]
        return [name for name in names if name.startswith("demo-")]

    given = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap}
    process = demo(tmp_path, "--json", "--people", "200", environ=given)
    wait_until(left, "its topics are there", SECONDS)
    status, out, said = ended(process, tmp_path)
    assert status == 0, f"{said}\n{out}"
    assert json.loads(out)["broker"] == "given"
    assert left() == []
    assert answers(kafka_server.bootstrap, 10.0)


def test_it_stays_up_when_asked_says_where_to_look_and_ends_on_a_signal(
    kafka_server: Served, tmp_path: Path
) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap}
    process = demo(tmp_path, "--stay", "--people", "200", environ=given)
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:  # ends with the demo, whose own bounds are shorter than the test's
        printed += line
        if line.startswith("  logs "):
            break
    assert "every number adds up" in printed
    places = dict(re.findall(r"^  (\w+) +(http\S+/metrics)$", printed, re.MULTILINE))
    assert places.keys() == {"bridge", "reader", "dedupe", "sink"}, printed
    for stage, url in places.items():
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert f"contactstream_{stage}_" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    status, _, said = ended(process, tmp_path)
    assert status == 0, said


def test_a_cluster_that_the_demo_cannot_use_is_status_2_and_a_reason(tmp_path: Path) -> None:
    secured = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    status, out, said = ended(demo(tmp_path, "--json", environ=secured), tmp_path)
    assert (status, out) == (2, "")
    assert "wants SASL_SSL, and the demo speaks only PLAINTEXT" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_every_process_and_says_where_the_logs_are(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = demo(tmp_path, "--json")
    wait_until(
        lambda: list((tmp_path / "temporary").glob("contactstream-demo-*/nylas.out")),
        "it is on its way",
        SECONDS,
    )
    process.send_signal(number)
    status, out, said = ended(process, tmp_path)
    assert (status, out) == (130, "")
    assert "the logs are in " in said
    assert "Traceback" not in said
