"""The webhook commands lose no secret, and the file of secrets keeps who may read it."""

import os
import stat
from pathlib import Path

import click
import pytest

from connectors.nylas.administration import TRIGGERS, Administration, Destination, Secret
from streams.commands import webhooks
from streams.settings import KafkaSettings, NylasSettings, load

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
    return webhooks.rotate_webhook(NYLAS, KAFKA, destination, secret_file=file, dry_run=False)


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
    assert file.read_text().splitlines()[0] == "d1-secret-1"
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
