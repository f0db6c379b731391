"""A new secret of the webhook goes into a Secret of Kubernetes by the operator's own kubectl."""

import base64
import copy
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connectors.nylas.administration import Administration, Secret
from connectors.nylas.destinations import TRIGGERS, Destination
from streams.cli import main
from streams.commands import webhooks

URL = "https://webhook.example.com/"
OLD = "the-old-secret"
# What `kubectl get secret contactstream-nylas-webhook --output json` prints.
PRESENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "Opaque",
    "metadata": {
        "name": "contactstream-nylas-webhook",
        "namespace": "contactstream",
        "labels": {"team": "crm"},
        "resourceVersion": "4711",
        "uid": "b9b0a7f4",
    },
    "data": {
        "secrets": base64.b64encode(OLD.encode()).decode(),
        "note": base64.b64encode(b"ours").decode(),
    },
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Nylas was asked for. It has the destination d1."""
    calls: list[str] = []
    one = Destination("d1", URL, "active", TRIGGERS)

    def rotate(_: object, name: str) -> Secret:
        calls.append(f"rotate {name}")
        return Secret(one, "the-new-secret")

    def create(_: object, url: str, **_options: object) -> Secret:
        calls.append(f"create {url}")
        return Secret(Destination("d2", url, "active", TRIGGERS), "the-new-secret")

    monkeypatch.setattr(Administration, "destinations", lambda _: [one])
    monkeypatch.setattr(Administration, "rotate", rotate)
    monkeypatch.setattr(Administration, "create", create)
    monkeypatch.setattr(webhooks, "request_run", lambda *_: "run")
    return calls


def webhook(*words: str, given: object = PRESENT, key: str = "secrets") -> Result:
    text = given if isinstance(given, str) else json.dumps(given)
    return CliRunner().invoke(
        main,
        ["webhooks", *words, "--kubernetes-secret", key],
        input=text,
        env={"NYLAS_API_KEY": "key"},
    )


def secrets_in(printed: str, key: str = "secrets") -> str:
    return base64.b64decode(json.loads(printed)["data"][key]).decode()


@pytest.mark.usefixtures("asked")
def test_a_rotation_prints_the_secret_with_the_new_value_before_the_old_one() -> None:
    ran = webhook("rotate", "d1")
    assert ran.exit_code == 0, ran.output
    assert secrets_in(ran.stdout) == f"the-new-secret # d1\n{OLD}\n"
    # With the resource version, so that kubectl refuses to overwrite what another one wrote.
    without = json.loads(ran.stdout)
    del without["data"]["secrets"]
    expected = copy.deepcopy(PRESENT)
    del expected["data"]["secrets"]
    assert without == expected


@pytest.mark.usefixtures("asked")
def test_no_secret_is_in_what_a_person_reads_and_it_says_what_to_do_if_kubectl_fails() -> None:
    ran = webhook("rotate", "d1")
    for value in ("the-new-secret", OLD, PRESENT["data"]["secrets"]):
        assert value not in ran.stderr
    assert "contactstream/contactstream-nylas-webhook, key secrets" in ran.stderr
    assert "run contactstream webhooks rotate d1 --kubernetes-secret secrets" in ran.stderr


@pytest.mark.usefixtures("asked")
def test_a_new_destination_fills_a_secret_that_is_still_empty() -> None:
    empty = PRESENT | {"data": {"secrets": ""}}
    ran = webhook("create", "https://other.example.com/", given=empty)
    assert ran.exit_code == 0, ran.output
    assert secrets_in(ran.stdout) == "the-new-secret # d2\n"


def test_a_dry_run_says_where_the_secret_would_go_and_prints_none(asked: list[str]) -> None:
    ran = webhook("rotate", "d1", "--dry-run")
    assert ran.exit_code == 0
    assert "contactstream/contactstream-nylas-webhook, key secrets" in ran.output
    assert PRESENT["data"]["secrets"] not in ran.output
    assert asked == []


OWNED = copy.deepcopy(PRESENT)
OWNED["metadata"]["ownerReferences"] = [{"kind": "ExternalSecret", "name": "webhook"}]


@pytest.mark.parametrize(
    ("given", "key", "said"),
    [
        ("", "secrets", "standard input is empty: pipe `kubectl get secret NAME --output json`"),
        ("Error from server", "secrets", "standard input is no JSON"),
        ("[]", "secrets", "no object of Kubernetes"),
        ({"kind": "List", "items": []}, "secrets", "standard input is List, and not one Secret"),
        (PRESENT, "secret", "has no key secret; did you mean secrets?"),
        (PRESENT, "xyz", "has no key xyz; it has: secrets, note"),
        ({**PRESENT, "data": None}, "secrets", "has no key secrets; it has: none"),
        ({**PRESENT, "immutable": True}, "secrets", "is immutable"),
        (OWNED, "secrets", "is made by ExternalSecret webhook"),
        ({**PRESENT, "data": {"secrets": "%"}}, "secrets", "is no text"),
        ({**PRESENT, "data": {"secrets": "/w=="}}, "secrets", "is no text"),
    ],
)
def test_what_could_not_be_put_back_is_refused_before_nylas_is_asked(
    asked: list[str], given: object, key: str, said: str
) -> None:
    ran = webhook("rotate", "d1", given=given, key=key)
    assert ran.exit_code == 2
    assert said in ran.output
    assert asked == []


def test_a_file_and_a_secret_of_kubernetes_exclude_each_other(asked: list[str]) -> None:
    ran = webhook("rotate", "d1", "--secret-file", "secrets")
    assert ran.exit_code == 2
    assert "exclude each other" in ran.output
    assert asked == []
