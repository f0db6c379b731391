"""The command webhooks: the webhook destinations at Nylas, and their signing secrets."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from connectors.nylas.administration import Secret, check
from connectors.nylas.destinations import TRIGGERS, Destination
from streams.commands.nylas_application import administration, call
from streams.commands.publishing import NotAcknowledged
from streams.commands.run_requests import request_run
from streams.commands.tables import print_table
from streams.runs import Run, RunKind
from streams.settings import KafkaSettings, NylasSettings

# Nylas repeats a notification for up to 20 minutes, with the signature of its first delivery.
OVERLAP_ADVICE = "keep the old secret for 20 minutes, because Nylas repeats what it signed with it"

# From a rotation to the reconcile that makes up for refused notifications. A mounted secret reaches
# every bridge in about two minutes, Nylas polls Google every five, and the version of a contact
# read from a page is dated ten minutes back.
RECONCILE_DELAY_SECONDS = 15 * 60

# For Kafka to acknowledge the request for that reconcile.
RECONCILE_REQUEST_SECONDS = 10.0


def list_webhooks(nylas: NylasSettings) -> None:
    """Prints the application's destinations. Raises click.ClickException."""
    destinations = call(administration(nylas).destinations)
    print_table(
        ("id", "status", "compressed", "url", "triggers"),
        [
            (one.id, one.status, _yes_or_no(one.compressed), one.url, ", ".join(one.triggers))
            for one in destinations
        ],
    )


def check_webhooks(nylas: NylasSettings, url: str | None) -> int:
    """Prints what is wrong with our destinations, with remedies; returns the exit code.

    Raises click.ClickException.
    """
    findings = check(call(administration(nylas).destinations), url)
    for finding in findings:
        click.echo(f"{finding.destination or 'webhooks'}: {finding.problem}\n    {finding.remedy}")
    if not findings:
        click.echo("the webhook is active and has every trigger that the bridge needs")
    return 1 if findings else 0


def create_webhook(
    nylas: NylasSettings,
    url: str,
    *,
    compressed: bool,
    description: str,
    secret_file: Path | None,
    second: bool = False,
) -> int:
    """Creates a destination and saves or prints its secret; returns the exit code.

    A `second` destination for a URL is created only on request: every notification comes once for
    each of them. Raises click.ClickException.
    """
    if secret_file is not None:
        _check_writable(secret_file)  # before Nylas shows the secret, which it does only once
    existing = call(administration(nylas).destinations)
    same = [one for one in existing if _same_url(one.url, url)]
    if same and not second:
        raise click.ClickException(
            f"Nylas already sends to {url}: {', '.join(f'{one.id} ({one.status})' for one in same)}"
            f". For a new secret run: contactstream webhooks rotate {same[0].id}. For a second "
            "destination, which doubles every notification, add --second"
        )
    secret = call(
        lambda: administration(nylas).create(url, compressed=compressed, description=description)
    )
    click.echo(f"created {secret.destination.id}, {secret.destination.status}", err=True)
    return 0 if _deliver_secret(secret, secret_file, only_one=not existing) else 1


def rotate_webhook(
    nylas: NylasSettings,
    kafka: KafkaSettings,
    destination_id: str,
    *,
    secret_file: Path | None,
    dry_run: bool,
) -> int:
    """Gives a destination a new secret and requests a reconcile; returns the exit code.

    The bridges refuse notifications until they have the new secret. The reconcile reads what those
    notifications were about. Raises click.ClickException.
    """
    if secret_file is not None:
        _check_writable(secret_file)
    destinations = call(administration(nylas).destinations)
    destination = _ours(destinations, destination_id)
    if dry_run:
        _print_rotation_plan(destination, secret_file)
        return 0
    secret = call(lambda: administration(nylas).rotate(destination_id))
    click.echo(
        f"Nylas signs for {secret.destination.id} with the new secret from now on; "
        f"{OVERLAP_ADVICE}",
        err=True,
    )
    delivered = _deliver_secret(secret, secret_file, only_one=len(destinations) == 1)
    _request_reconcile(kafka)
    return 0 if delivered else 1


def with_secret(file_text: str, secret: Secret, *, only_one: bool) -> str:
    """The text of a secrets file with a new secret put first, `secret # destination` a line.

    One older secret of the same destination is kept, because Nylas signs with the last two at most,
    and every secret of other destinations. A line without a destination belongs to this one if the
    application has `only_one`; otherwise it is kept.
    """
    ours = secret.destination.id
    lines = [f"{secret.value} # {ours}"]
    kept = 0
    for value, owner in _secret_lines(file_text):
        if value == secret.value:
            continue
        if owner == ours or (not owner and only_one):
            kept += 1
            if kept > 1:
                continue
        lines.append(f"{value} # {owner}" if owner else value)
    return "\n".join(lines) + "\n"


def _secret_lines(file_text: str) -> Iterator[tuple[str, str]]:
    """Each secret of a file, and its destination; empty where the file does not say it."""
    for line in file_text.splitlines():
        values, _, owner = line.partition(" #")
        for value in values.split(","):
            if value.strip():
                yield value.strip(), owner.strip()


def _same_url(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def _ours(destinations: Sequence[Destination], destination_id: str) -> Destination:
    """The destination with an ID, if it can be contactstream's. Raises click.ClickException."""
    found = next((one for one in destinations if one.id == destination_id), None)
    if found is None:
        raise click.ClickException(
            f"Nylas has no destination {destination_id}; see: contactstream webhooks list"
        )
    if found.triggers and not set(found.triggers) & set(TRIGGERS):
        raise click.ClickException(
            f"{destination_id} ({found.url}) has no trigger for contacts or grants: it is another "
            "program's, which a new secret would cut off"
        )
    return found


def _print_rotation_plan(destination: Destination, file: Path | None) -> None:
    where = f"written to {file}, before the old one" if file else "printed"
    click.echo(
        f"{destination.id} ({destination.status}, {destination.url}) "
        f"would get a new secret, {where}"
    )
    click.echo(
        f"{RECONCILE_DELAY_SECONDS // 60} minutes later every address book would be read again"
    )


def _request_reconcile(kafka: KafkaSettings) -> None:
    click.echo(
        "until a bridge has the new secret it answers 401, "
        "and Nylas does not repeat a notification that got 401",
        err=True,
    )
    now = int(time.time())
    run = Run(
        RunKind.RECONCILE, None, now, "webhooks rotate", not_before=now + RECONCILE_DELAY_SECONDS
    )
    try:
        run_id = request_run(kafka, run, RECONCILE_REQUEST_SECONDS)
    except NotAcknowledged as error:
        click.echo(
            f"could not request the reconcile that makes up for this, Kafka: {error}; "
            "once every bridge has the new secret, run: contactstream reconcile --all",
            err=True,
        )
        return
    at = time.strftime("%H:%M:%S", time.localtime(run.not_before))
    click.echo(
        f"the reader reads every address book again at {at} ({run_id}); "
        "if a bridge gets the secret later than that, run then: contactstream reconcile --all",
        err=True,
    )


def _deliver_secret(secret: Secret, file: Path | None, *, only_one: bool) -> bool:
    """Writes the secret to the file, or prints it; returns whether it went where it should.

    It is printed when no file is given, and as a last resort when the file cannot be written.
    """
    if file is None:
        click.echo(secret.value)
        click.echo("put it first in NYLAS_WEBHOOK_SECRETS; Nylas does not show it again", err=True)
        return True
    try:
        _write_secret(file, secret, only_one=only_one)
    except (OSError, UnicodeError) as error:
        click.echo(secret.value)
        click.echo(
            f"{file} could not be written ({error}). The line above is the new secret, "
            "and Nylas does not show it again: put it into the file by hand, as its first line",
            err=True,
        )
        return False
    click.echo(f"written to {file}, before the old one", err=True)
    return True


def _write_secret(file: Path, secret: Secret, *, only_one: bool) -> None:
    """Puts the secret first. The file keeps its mode, owner and group; a new one is ours alone."""
    file = file.resolve()  # a link stays a link
    old = file.stat() if file.exists() else None
    text = with_secret(file.read_text() if old else "", secret, only_one=only_one)
    new_file = file.with_name(file.name + ".new")
    new_file.unlink(missing_ok=True)
    descriptor = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        if old is not None:
            made = os.fstat(descriptor)
            if (old.st_uid, old.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))  # after fchown, which may clear bits
        out.write(text)
        out.flush()
        os.fsync(descriptor)  # a full disk may be reported only here
    # Atomic, so that a bridge that reads the file meanwhile finds the old secrets or all of them.
    new_file.replace(file)


def _check_writable(file: Path) -> None:
    """Raises click.ClickException for a file that cannot be replaced by one of the same owner."""
    file = file.resolve()
    if not os.access(file.parent, os.W_OK) or (
        file.exists() and not os.access(file, os.R_OK | os.W_OK)
    ):
        raise click.ClickException(f"{file} cannot be written")
    if not file.exists() or os.geteuid() == 0:
        return
    old = file.stat()
    if old.st_uid != os.geteuid() or old.st_gid not in {os.getegid(), *os.getgroups()}:
        raise click.ClickException(
            f"{file} belongs to user {old.st_uid} and group {old.st_gid}, which would be lost: run "
            "this command as that user, or without --secret-file and put the secret in by hand"
        )


def _yes_or_no(value: bool | None) -> str:
    if value is None:
        return "?"
    return "yes" if value else "no"
