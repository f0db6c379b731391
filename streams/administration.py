"""The commands for what lies at Nylas: webhook destinations and their secrets, and the grants."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from connectors.nylas.administration import Administration, Secret, check
from connectors.nylas.errors import NylasError
from connectors.nylas.grants import unreadable
from streams.settings import NylasSettings

AnswerT = TypeVar("AnswerT")

OVERLAP = "keep the old secret for 20 minutes, as long as Nylas repeats what it signed with it"


def administration(nylas: NylasSettings) -> Administration:
    """The application that the settings name."""
    return Administration(nylas.api_url, nylas.api_key.get_secret_value())


def list_webhooks(nylas: NylasSettings) -> None:
    """Prints the destinations. Raises click.ClickException."""
    found = _asked(administration(nylas).destinations)
    rows = [(one.id, one.status, _said(one.compressed), one.url, ", ".join(one.triggers)) for one in found]
    _table(("id", "status", "compressed", "url", "triggers"), rows)


def check_webhooks(nylas: NylasSettings, url: str | None) -> int:
    """Prints what is wrong with our destinations, each with its remedy; returns the exit code. Raises click.ClickException."""
    findings = check(_asked(administration(nylas).destinations), url)
    for finding in findings:
        click.echo(f"{finding.destination or 'webhooks'}: {finding.problem}\n    {finding.remedy}")
    if not findings:
        click.echo("the webhook is active and listens to everything that the bridge takes")
    return 1 if findings else 0


def create_webhook(
    nylas: NylasSettings, url: str, *, compressed: bool, description: str, secret_file: Path | None
) -> None:
    """Creates a destination and hands over its secret. Raises click.ClickException."""
    if secret_file is not None:
        _writable(secret_file)  # before Nylas shows the secret, once
    secret = _asked(lambda: administration(nylas).create(url, compressed=compressed, description=description))
    click.echo(f"created {secret.destination.id}, {secret.destination.status}", err=True)
    _hand_over(secret, secret_file)


def rotate_webhook(nylas: NylasSettings, destination_id: str, secret_file: Path | None) -> None:
    """Gives a destination a new secret and hands it over. Raises click.ClickException."""
    if secret_file is not None:
        _writable(secret_file)
    secret = _asked(lambda: administration(nylas).rotate(destination_id))
    click.echo(f"{secret.destination.id} signs with the new secret from now on; {OVERLAP}", err=True)
    _hand_over(secret, secret_file)


def list_grants(nylas: NylasSettings) -> None:
    """Prints the grants, and of those that cannot be read why not. Raises click.ClickException."""
    found = _asked(administration(nylas).grants)
    rows = [
        (one.id, one.provider, "valid" if one.valid else "expired", unreadable(one) or "-", one.email) for one in found
    ]
    _table(("id", "provider", "status", "left out", "address"), rows)


def with_secret(file_text: str, secret: str) -> str:
    """A file of secrets, one a line, with a new one before the others; the last two are kept, which is all that Nylas signs with."""
    old = [line.strip() for line in file_text.replace(",", "\n").splitlines() if line.strip()]
    return "\n".join([secret, *[one for one in old if one != secret][:1]]) + "\n"


def _hand_over(secret: Secret, file: Path | None) -> None:
    if file is None:
        click.echo(secret.value)
        click.echo("put it first in NYLAS_WEBHOOK_SECRETS; Nylas does not show it again", err=True)
        return
    text = with_secret(file.read_text() if file.exists() else "", secret.value)
    beside = file.with_name(file.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    beside.replace(file)  # whole, so that a bridge that reads it meanwhile finds the old ones or both
    click.echo(f"written to {file}, before the old one", err=True)


def _writable(file: Path) -> None:
    if not os.access(file.parent, os.W_OK) or (file.exists() and not os.access(file, os.R_OK | os.W_OK)):
        raise click.ClickException(f"{file} cannot be written")


def _asked(call: Callable[[], AnswerT]) -> AnswerT:
    try:
        return call()
    except NylasError as error:
        raise click.ClickException(str(error)) from error


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = Console()
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(*titles)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _said(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"
