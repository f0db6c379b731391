"""The command webhooks: the webhook destinations at Nylas, and their signing secrets."""

import time
from collections.abc import Sequence

import click

from connectors.nylas.administration import check
from connectors.nylas.destinations import TRIGGERS, Destination
from streams.commands.nylas_application import administration, call
from streams.commands.publishing import NotAcknowledged
from streams.commands.run_requests import request_run
from streams.commands.tables import print_table
from streams.commands.webhook_secrets import SecretPlace
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
    place: SecretPlace,
    second: bool = False,
) -> int:
    """Creates a destination and puts its secret into its place; returns the exit code.

    A `second` destination for a URL is created only on request: every notification comes once for
    each of them. Raises click.ClickException.
    """
    place.check()  # before Nylas shows the secret, which it does only once
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
    return 0 if place.deliver(secret, only_one=not existing) else 1


def rotate_webhook(
    nylas: NylasSettings,
    kafka: KafkaSettings,
    destination_id: str,
    *,
    place: SecretPlace,
    dry_run: bool,
) -> int:
    """Gives a destination a new secret and requests a reconcile; returns the exit code.

    The bridges refuse notifications until they have the new secret. The reconcile reads what those
    notifications were about. Raises click.ClickException.
    """
    place.check()
    destinations = call(administration(nylas).destinations)
    destination = _ours(destinations, destination_id)
    if dry_run:
        _print_rotation_plan(destination, place)
        return 0
    secret = call(lambda: administration(nylas).rotate(destination_id))
    click.echo(
        f"Nylas signs for {secret.destination.id} with the new secret from now on; "
        f"{OVERLAP_ADVICE}",
        err=True,
    )
    delivered = place.deliver(secret, only_one=len(destinations) == 1)
    _request_reconcile(kafka)
    return 0 if delivered else 1


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


def _print_rotation_plan(destination: Destination, place: SecretPlace) -> None:
    click.echo(
        f"{destination.id} ({destination.status}, {destination.url}) "
        f"would get a new secret, {place.plan}"
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


def _yes_or_no(value: bool | None) -> str:
    if value is None:
        return "?"
    return "yes" if value else "no"
