"""The webhook commands lose no secret, and the file of secrets keeps who may read it."""

import os
import stat
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.nylas.administration import (
    Administration,
    Secret,
    check,
)
from connectors.nylas.destinations import TRIGGERS, Destination
from streams.commands import webhooks
from streams.commands.webhook_secrets import Printed, SecretFile, with_secret
from streams.settings import KafkaSettings, NylasSettings, load, split_secrets

NYLAS = load(NylasSettings, {"NYLAS_API_KEY": "key"})
KAFKA = load(KafkaSettings, {})
URL = "https://webhooks.example/nylas"


@pytest.fixture
def destinations(monkeypatch: pytest.MonkeyPatch) -> list[Destination]:
    """The destinations of the application; those that are created or rotated get secrets."""
    found = [Destination("d1", URL, "active", TRIGGERS)]
    made: list[str] = []

    def secret(destination: Destination) -> Secret:
        made.append(destination.id)
        return Secret(destination, f"{destination.id}-secret-{len(made)}")

    def create(_: object, url: str, **_options: object) -> Secret:
        found.append(Destination(f"d{len(found) + 1}", url, "active", TRIGGERS))
        return secret(found[-1])

    def rotate(_: object, name: str) -> Secret:
        return secret(next(one for one in found if one.id == name))

    monkeypatch.setattr(Administration, "destinations", lambda _: list(found))
    monkeypatch.setattr(Administration, "create", create)
    monkeypatch.setattr(Administration, "rotate", rotate)
    monkeypatch.setattr(webhooks, "request_run", lambda *_: "run")
    return found


def rotate(destination: str, file: Path) -> int:
    return webhooks.rotate_webhook(NYLAS, KAFKA, destination, place=SecretFile(file), dry_run=False)


@pytest.mark.usefixtures("destinations")
@pytest.mark.parametrize("mode", [0o640, 0o444, 0o600])
def test_the_file_of_the_secrets_keeps_its_mode_owner_and_group(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secrets"
    file.write_text("old\n")
    owner = (4321, 8765) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *owner)
    file.chmod(mode | (0 if os.geteuid() == 0 else 0o200))
    before = file.stat()
    assert rotate("d1", file) == 0
    after = file.stat()
    assert file.read_text().splitlines() == ["d1-secret-1 # d1", "old"]
    assert (after.st_uid, after.st_gid) == owner
    assert stat.S_IMODE(after.st_mode) == stat.S_IMODE(before.st_mode)


@pytest.mark.usefixtures("destinations")
def test_a_link_to_the_file_of_the_secrets_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "secrets", tmp_path / "link"
    link.symlink_to(file)
    assert rotate("d1", link) == 0
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "a new file is for its owner alone"


@pytest.mark.usefixtures("destinations")
def test_a_file_whose_owner_would_be_lost_is_refused_before_the_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets"
    file.write_text("old\n")
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(click.ClickException, match="belongs to user"):
        rotate("d1", file)
    assert file.read_text() == "old\n"


def test_the_secrets_of_two_destinations_survive_every_rotation(
    tmp_path: Path, destinations: list[Destination]
) -> None:
    destinations.append(Destination("d2", URL, "active", TRIGGERS))
    file = tmp_path / "secrets"
    file.write_text("first\nsecond\n")
    for name in ("d1", "d1", "d2", "d1", "d2"):
        assert rotate(name, file) == 0
    assert file.read_text().splitlines() == [
        "d2-secret-5 # d2",
        "d1-secret-4 # d1",
        "d2-secret-3 # d2",
        "d1-secret-2 # d1",
        "first",
        "second",
    ]
    nylas = load(NylasSettings, {"NYLAS_WEBHOOK_SECRETS_FILE": str(file)})
    assert [each.get_secret_value() for each in nylas.webhook_secrets] == [
        "d2-secret-5",
        "d1-secret-4",
        "d2-secret-3",
        "d1-secret-2",
        "first",
        "second",
    ]


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=30),
    st.lists(st.text("xyz", min_size=1, max_size=4), max_size=4),
)
def test_the_last_two_secrets_of_each_destination_and_unknown_ones_are_kept(
    rotations: list[str], unknown: list[str]
) -> None:
    text, history = ",".join(unknown), dict[str, list[str]]()
    for number, name in enumerate(rotations):
        secret = Secret(Destination(name, URL, "active", TRIGGERS), f"s{number}")
        text = with_secret(text, secret, only_one=False)
        history.setdefault(name, []).append(secret.value)
        assert text.startswith(secret.value)
    kept = split_secrets(text)
    for values in history.values():
        assert set(values[-2:]) <= set(kept)
        assert not set(values[:-2]) & set(kept)
    assert [each for each in kept if not each.startswith("s")] == unknown


@pytest.mark.parametrize("url", [URL, URL + "/", URL.upper()])
def test_a_second_destination_for_a_url_needs_a_flag(
    destinations: list[Destination], url: str
) -> None:
    def create(*, second: bool) -> int:
        return webhooks.create_webhook(
            NYLAS, url, compressed=True, description="", place=Printed(), second=second
        )

    with pytest.raises(click.ClickException, match="webhooks rotate d1"):
        create(second=False)
    assert len(destinations) == 1
    assert create(second=True) == 0
    assert len(destinations) == 2


def test_a_destination_of_another_program_is_neither_rotated_nor_to_be_deleted(
    tmp_path: Path, destinations: list[Destination]
) -> None:
    other = Destination("mail", "https://other.example", "active", ("message.created",))
    destinations.append(other)
    with pytest.raises(click.ClickException, match="another program's"):
        rotate("mail", tmp_path / "secrets")
    elsewhere = Destination("else", "https://other.example", "active", TRIGGERS)
    assert check([destinations[0], elsewhere]) == []
