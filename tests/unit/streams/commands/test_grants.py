"""Which grants need a sign-in, whose they are, since when, and the link that their owners need."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from connectors.nylas.administration import Administration
from connectors.nylas.grants import Grant
from streams.audit import parse_audit
from streams.cli import main
from streams.commands import grants
from streams.commands.grants import ExpiredGrant, expired_grants, expired_since
from streams.commands.publishing import CommandPublisher
from streams.control import ControlTable
from streams.control_grants import held_record
from streams.control_selection import rule_record
from streams.kafka.records import KafkaRecord
from streams.mailboxes import MailboxRule
from streams.settings import KafkaSettings, load
from streams.topics import topics

GRANTS = [
    Grant("g-valid", "google", "ada@acme.example"),
    Grant("g-expired", "google", "bob+crm@acme.example", valid=False),
    Grant("g-unknown-since", "imap", "=cmd@acme.example", valid=False),
    Grant("g-blocked", "google", "carl@acme.example", valid=False, blocked=True),
    Grant("g-calendar", "virtual-calendar", "room", valid=False),
]
LINKED = {
    "NYLAS_API_KEY": "key",
    "NYLAS_CLIENT_ID": "app id",
    "NYLAS_REDIRECT_URI": "https://app.acme.example/nylas?step=callback",
}
NAMES = topics(load(KafkaSettings, {}))
# 2026-01-31 12:00 UTC
EXPIRED_AT = 1_769_860_800


def event(grant: str, kind: str, at: int) -> KafkaRecord:
    body = {"type": kind, "time": at, "id": f"{kind}{at}", "data": {"object": {"grant_id": grant}}}
    return KafkaRecord("grants.events", grant.encode(), orjson.dumps(body), [], 0, at, at * 1000)


EVENTS = [
    event("g-expired", "grant.created", EXPIRED_AT - 100),
    event("g-expired", "grant.expired", EXPIRED_AT),
    event("g-valid", "grant.expired", EXPIRED_AT),
    event("g-valid", "grant.listed", EXPIRED_AT + 1),
]

Listed = Callable[..., tuple[str, str]]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Listed:
    """Runs `contactstream grants list`; returns what it printed on stdout and on stderr."""
    monkeypatch.setattr(Administration, "grants", lambda _: list(GRANTS))
    monkeypatch.setattr(grants, "topic_records", lambda *_: iter(EVENTS))
    monkeypatch.setattr(grants, "read_control", lambda _: ControlTable())
    for name in ("NYLAS_CLIENT_ID", "NYLAS_REDIRECT_URI"):
        monkeypatch.delenv(name, raising=False)

    def run(*options: str, environ: Mapping[str, str] = LINKED) -> tuple[str, str]:
        ended = CliRunner().invoke(main, ["grants", "list", *options], env=dict(environ))
        assert ended.exit_code == 0, ended.output
        return ended.stdout, ended.stderr

    return run


def test_csv_has_a_row_for_each_grant_that_a_sign_in_would_mend(listed: Listed) -> None:
    out, problems = listed("--expired", "--csv")
    assert problems == ""
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["grant"] for row in rows] == ["g-expired", "g-unknown-since"]
    assert list(rows[0]) == ["grant", "address", "provider", "expired_since", "sign_in_link"]
    first, second = rows
    assert (first["address"], first["provider"]) == ("bob+crm@acme.example", "google")
    assert first["expired_since"] == "2026-01-31 12:00Z"
    assert second["expired_since"] == ""
    assert second["address"] == "'=cmd@acme.example", "no formula for a spreadsheet"


def test_the_link_asks_nylas_for_a_new_sign_in_of_this_mailbox(listed: Listed) -> None:
    out, _ = listed("--expired", "--json")
    link = urlsplit(json.loads(out)[0]["sign_in_link"])
    assert f"{link.scheme}://{link.netloc}{link.path}" == "https://api.us.nylas.com/v3/connect/auth"
    assert parse_qs(link.query) == {
        "client_id": ["app id"],
        "redirect_uri": ["https://app.acme.example/nylas?step=callback"],
        "response_type": ["code"],
        "access_type": ["online"],
        "provider": ["google"],
        "login_hint": ["bob+crm@acme.example"],
    }


@pytest.mark.parametrize("missing", ["NYLAS_CLIENT_ID", "NYLAS_REDIRECT_URI"])
def test_without_a_setting_there_are_no_links_and_the_setting_is_named(
    listed: Listed, missing: str
) -> None:
    environ = {name: value for name, value in LINKED.items() if name != missing}
    out, problems = listed("--expired", "--json", environ=environ)
    assert [row["sign_in_link"] for row in json.loads(out)] == [None, None]
    assert f"set {missing}" in problems
    (other,) = {"NYLAS_CLIENT_ID", "NYLAS_REDIRECT_URI"} - {missing}
    assert other not in problems


def test_a_broker_that_is_away_leaves_out_since_when_and_says_so(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise click.ClickException("no broker answers at kafka:9092")

    monkeypatch.setattr(grants, "topic_records", away)
    out, problems = listed("--expired", "--json")
    assert [row["expired_since"] for row in json.loads(out)] == [None, None]
    assert "no broker answers at kafka:9092" in problems


def test_all_grants_are_listed_for_programs_too(listed: Listed) -> None:
    rows = json.loads(listed("--json")[0])
    assert [(row["grant"], row["status"], row["left_out"]) for row in rows] == [
        ("g-valid", "valid", None),
        ("g-expired", "expired", "expired"),
        ("g-unknown-since", "expired", "expired"),
        ("g-blocked", "expired", "blocked"),
        ("g-calendar", "expired", "no_contacts"),
    ]
    assert len(list(csv.DictReader(io.StringIO(listed("--csv")[0])))) == len(GRANTS)


def test_csv_and_json_at_once_are_refused() -> None:
    ended = CliRunner().invoke(main, ["grants", "list", "--csv", "--json"], env=LINKED)
    assert ended.exit_code == 2
    assert "--csv and --json" in ended.output


def test_no_expired_grant_is_no_row_and_no_reading_of_kafka(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Administration, "grants", lambda _: GRANTS[:1])
    monkeypatch.setattr(grants, "topic_records", lambda *_: pytest.fail("not asked for"))
    assert listed("--expired", "--json")[0].strip() == "[]"
    assert listed("--expired", "--csv")[0].splitlines() == [
        "grant,address,provider,expired_since,sign_in_link"
    ]


def test_since_is_the_time_of_the_event_that_the_status_comes_from() -> None:
    assert expired_since(EVENTS) == {"g-expired": EXPIRED_AT}
    found = expired_grants(GRANTS, {"g-expired": EXPIRED_AT}, lambda provider, address: provider)
    assert found[0] == ExpiredGrant(
        "g-expired", "bob+crm@acme.example", "google", EXPIRED_AT, "google"
    )


def test_each_grant_says_whether_its_mailbox_is_selected_and_why(listed: Listed) -> None:
    rows = json.loads(listed("--json", environ=LINKED | {"PEOPLE_MAILBOXES": "ada@*"})[0])
    assert [(row["grant"], row["left_out"], row["mailbox"]) for row in rows[:2]] == [
        ("g-valid", None, "selected by ada@*"),
        ("g-expired", "expired", "not selected"),
    ]


def test_what_is_in_force_counts_more_than_the_setting_of_the_command(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = ControlTable()
    names = topics(load(KafkaSettings, {}))
    control.apply(rule_record(names, MailboxRule(("bob*",)), 9))
    monkeypatch.setattr(grants, "read_control", lambda _: control)
    rows = json.loads(listed("--json", environ=LINKED | {"PEOPLE_MAILBOXES": "ada@*"})[0])
    assert [row["mailbox"] for row in rows[:2]] == ["not selected", "selected by bob*"]
    assert rows[0]["left_out"] == "not_selected"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[KafkaRecord]:
    """What the command writes, while the grants g-expired and g-valid wait."""
    control, records = ControlTable(), list[KafkaRecord]()
    control.apply(held_record(NAMES, ["g-expired", "g-valid"]))
    monkeypatch.setattr(grants, "read_control", lambda _: control)
    monkeypatch.setattr(grants, "topic_records", lambda *_: iter(EVENTS))

    def publish(_: CommandPublisher, some: Iterable[KafkaRecord]) -> None:
        records.extend(some)
        for record in some:
            if record.topic == NAMES.control.name:
                control.apply(record)
                control.apply(held_record(NAMES, []))

    monkeypatch.setattr(CommandPublisher, "publish", publish)
    return records


def confirm(*options: str) -> Result:
    return CliRunner().invoke(main, ["grants", "confirm", *options])


def test_a_confirmation_names_the_grants_and_is_audited_and_happens_once(
    written: list[KafkaRecord],
) -> None:
    ended = confirm("--why", "the team left", "--actor", "ada")
    assert ended.exit_code == 0, ended.output
    assert "g-expired" in ended.output
    assert "of 2 deleted grants are published" in ended.output
    audit, confirmed = written
    entry = parse_audit(audit)
    assert (entry.actor, entry.why, entry.count) == ("ada", "the team left", 2)
    table = ControlTable()
    table.apply(confirmed)
    assert table.grant_deletions.confirmed_until == EXPIRED_AT + 1
    again = confirm("--why", "the team left", "--actor", "ada")
    assert again.exit_code == 2
    assert "no deleted grant waits" in again.output


def test_a_dry_run_of_a_confirmation_lists_and_writes_nothing(written: list[KafkaRecord]) -> None:
    ended = confirm("--dry-run")
    assert "of 2 deleted grants would be published" in ended.output
    assert written == []


def test_a_confirmation_needs_a_reason(written: list[KafkaRecord]) -> None:
    ended = confirm()
    assert ended.exit_code == 2
    assert "--why" in ended.output
    assert written == []
