"""Who the audit says has run a command."""

import getpass

import click
import pytest

from streams.commands.actor import actor_name


def test_a_user_of_the_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    assert actor_name(None).startswith("ada@")


def test_the_number_of_a_containers_user_is_nobodys_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "10001")  # as podman names the image's user
    with pytest.raises(click.UsageError, match="--actor NAME"):
        actor_name(None)
    assert actor_name("ada") == "ada"
