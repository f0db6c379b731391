"""The commands for what lies at Nylas: webhook destinations and their secrets, and the grants."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from connectors.nylas.administration import Administration, Destination, Secret, check
from connectors.nylas.errors import NylasError
from connectors.nylas.grants import unreadable
from streams.commands.follow import NotAcknowledged, ask
from streams.commands.tables import table
from streams.runs import Run, RunKind
from streams.settings import KafkaSettings, NylasSettings

AnswerT = TypeVar("AnswerT")

OVERLAP = "keep the old secret for 20 minutes, as long as Nylas repeats what it signed with it"

READ_AGAIN_AFTER = 15 * 60
"""Seconds from a rotation to the reading of everything that makes up for what was refused. A
mounted secret is everywhere in two minutes or so, Google is polled every five by Nylas, and what is
published of a page is dated ten minutes back.
"""

KAFKA_SECONDS = (
    10.0  # for the request's acknowledgement: the secret waits to be put in place meanwhile
)


def administration(nylas: NylasSettings) -> Administration:
    """The application that the settings name."""
    return Administration(nylas.api_url, nylas.api_key.get_secret_value())


def list_webhooks(nylas: NylasSettings) -> None:
    """Prints the destinations. Raises click.ClickException."""
    found = _asked(administration(nylas).destinations)
    rows = [
        (one.id, one.status, _said(one.compressed), one.url, ", ".join(one.triggers))
        for one in found
    ]
    table(("id", "status", "compressed", "url", "triggers"), rows)


def check_webhooks(nylas: NylasSettings, url: str | None) -> int:
    """Prints what is wrong with our destinations, each with its remedy; returns the exit code.
    Raises click.ClickException.
    """
    findings = check(_asked(administration(nylas).destinations), url)
    for finding in findings:
        click.echo(f"{finding.destination or 'webhooks'}: {finding.problem}\n    {finding.remedy}")
    if not findings:
        click.echo("the webhook is active and listens to everything that the bridge takes")
    return 1 if findings else 0


def create_webhook(
    nylas: NylasSettings, url: str, *, compressed: bool, description: str, secret_file: Path | None
) -> int:
    """Creates a destination and hands over its secret; returns the exit code. Raises
    click.ClickException.
    """
    if secret_file is not None:
        _writable(secret_file)  # before Nylas shows the secret, once
    secret = _asked(
        lambda: administration(nylas).create(url, compressed=compressed, description=description)
    )
    click.echo(f"created {secret.destination.id}, {secret.destination.status}", err=True)
    return 0 if _hand_over(secret, secret_file) else 1


def rotate_webhook(
    nylas: NylasSettings,
    kafka: KafkaSettings,
    destination_id: str,
    *,
    secret_file: Path | None,
    dry_run: bool,
) -> int:
    """Gives a destination a new secret, hands it over, and asks for what is refused meanwhile to be
    read; returns the exit code.

    Raises click.ClickException.
    """
    if secret_file is not None:
        _writable(secret_file)
    if dry_run:
        _say_rotation(_asked(administration(nylas).destinations), destination_id, secret_file)
        return 0
    secret = _asked(lambda: administration(nylas).rotate(destination_id))
    click.echo(
        f"{secret.destination.id} signs with the new secret from now on; {OVERLAP}", err=True
    )
    handed_over = _hand_over(secret, secret_file)
    _read_again(kafka)
    return 0 if handed_over else 1


def list_grants(nylas: NylasSettings) -> None:
    """Prints the grants, and of those that cannot be read why not. Raises click.ClickException."""
    found = _asked(administration(nylas).grants)
    rows = [
        (
            one.id,
            one.provider,
            "valid" if one.valid else "expired",
            unreadable(one) or "-",
            one.email,
        )
        for one in found
    ]
    table(("id", "provider", "status", "left out", "address"), rows)


def with_secret(file_text: str, secret: str) -> str:
    """A file of secrets, one a line, with a new one before the others; the last two are kept, which
    is all that Nylas signs with.
    """
    old = [line.strip() for line in file_text.replace(",", "\n").splitlines() if line.strip()]
    return "\n".join([secret, *[one for one in old if one != secret][:1]]) + "\n"


def _say_rotation(
    destinations: Sequence[Destination], destination_id: str, file: Path | None
) -> None:
    found = [one for one in destinations if one.id == destination_id]
    if not found:
        raise click.ClickException(
            f"Nylas has no destination {destination_id}; see: contactstream webhooks list"
        )
    where = f"written to {file}, before the old one" if file else "printed"
    click.echo(
        f"{destination_id} ({found[0].status}, {found[0].url}) would get a new secret, {where}"
    )
    click.echo(f"{READ_AGAIN_AFTER // 60} minutes later every address book would be read again")


def _read_again(kafka: KafkaSettings) -> None:
    """Notifications that are signed before the bridges have the new secret get a 401, after which
    Nylas does not repeat them.
    """
    click.echo(
        "until every bridge has the new secret it answers 401, and Nylas does not repeat what got that",
        err=True,
    )
    now = int(time.time())
    run = Run(RunKind.RECONCILE, None, now, "webhooks rotate", not_before=now + READ_AGAIN_AFTER)
    try:
        run_id = ask(kafka, run, KAFKA_SECONDS)
    except NotAcknowledged as error:
        click.echo(
            f"Kafka took no request ({error}); once they all have it, run: contactstream reconcile --all",
            err=True,
        )
        return
    at = time.strftime("%H:%M:%S", time.localtime(run.not_before))
    click.echo(
        f"the reader reads every address book again at {at} ({run_id}); if a bridge gets the secret later than that, "
        "run then: contactstream reconcile --all",
        err=True,
    )


def _hand_over(secret: Secret, file: Path | None) -> bool:
    """Writes the secret to the file, or prints it where there is none, or as the last resort;
    returns whether it is where it should be.
    """
    if file is None:
        click.echo(secret.value)
        click.echo("put it first in NYLAS_WEBHOOK_SECRETS; Nylas does not show it again", err=True)
        return True
    try:
        _write(file, secret.value)
    except (OSError, UnicodeError) as error:
        click.echo(secret.value)
        click.echo(
            f"{file} could not be written ({error}). The line above is the new secret, and Nylas does not show it again: "
            "put it into the file by hand, as its first line",
            err=True,
        )
        return False
    click.echo(f"written to {file}, before the old one", err=True)
    return True


def _write(file: Path, secret: str) -> None:
    text = with_secret(file.read_text() if file.exists() else "", secret)
    beside = file.with_name(file.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(descriptor)  # a full disk may say so only here
    beside.replace(
        file
    )  # whole, so that a bridge that reads it meanwhile finds the old ones or both


def _writable(file: Path) -> None:
    if not os.access(file.parent, os.W_OK) or (
        file.exists() and not os.access(file, os.R_OK | os.W_OK)
    ):
        raise click.ClickException(f"{file} cannot be written")


def _asked(call: Callable[[], AnswerT]) -> AnswerT:
    try:
        return call()
    except NylasError as error:
        raise click.ClickException(str(error)) from error


def _said(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"
