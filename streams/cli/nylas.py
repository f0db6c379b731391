"""Commands for the Nylas application: its webhooks and its grants."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams import settings
from streams.cli.loading import load, load_nylas, mailbox_rule
from streams.cli.options import ACTOR, WHY
from streams.cli.root import main

if TYPE_CHECKING:
    from streams.commands.webhook_secrets import SecretPlace


@main.group()
def webhooks() -> None:
    """The webhook destinations at Nylas, and their secrets."""


_SECRET_FILE = click.option(
    "--secret-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the secret as the first line of this file (NYLAS_WEBHOOK_SECRETS_FILE) "
    "instead of printing it.",
)
_KUBERNETES_SECRET = click.option(
    "--kubernetes-secret",
    metavar="KEY",
    help="Read a Secret from standard input, as kubectl get secret NAME --output json prints it, "
    "and print it for kubectl replace --filename -, with the new secret first in this key.",
)


def _secret_place(
    secret_file: Path | None, kubernetes_secret: str | None, *, dry_run: bool = False
) -> "SecretPlace":
    """Where the options want a new secret. Reads standard input for a Secret of Kubernetes."""
    from streams.commands.webhook_secrets import Printed, SecretFile, present_secret

    if kubernetes_secret is None:
        return SecretFile(secret_file) if secret_file else Printed()
    if secret_file is not None:
        raise click.UsageError("--secret-file and --kubernetes-secret exclude each other")
    if sys.stdin.isatty():
        raise click.UsageError(
            "--kubernetes-secret reads the present Secret: pipe `kubectl get secret NAME --output "
            "json` into this command"
        )
    if sys.stdout.isatty() and not dry_run:
        raise click.UsageError(
            "--kubernetes-secret would print secrets on the terminal: pipe the output into "
            "`kubectl replace --filename -`"
        )
    return present_secret(sys.stdin.read(), kubernetes_secret)


@webhooks.command(name="list")
def webhooks_list() -> None:
    """Lists the application's webhook destinations."""
    from streams.commands.webhooks import list_webhooks

    list_webhooks(load_nylas())


@webhooks.command(name="check")
@click.option(
    "--url",
    help="The URL of our webhook; the default is every destination with a contact trigger.",
)
def webhooks_check(*, url: str | None) -> None:
    """Checks that Nylas still sends to our webhook, and says what to do if not.

    The exit code is 1 when something is wrong.
    """
    from streams.commands.webhooks import check_webhooks

    sys.exit(check_webhooks(load_nylas(), url))


@webhooks.command(name="create")
@click.argument("url")
@click.option("--compressed/--plain", default=True, show_default=True, help="Have Nylas send gzip.")
@click.option("--description", default="contactstream", show_default=True)
@click.option("--second", is_flag=True, help="Create it although Nylas already sends to URL.")
@_SECRET_FILE
@_KUBERNETES_SECRET
def webhooks_create(
    *,
    url: str,
    compressed: bool,
    description: str,
    secret_file: Path | None,
    kubernetes_secret: str | None,
    second: bool,
) -> None:
    """Creates a destination that sends to URL, and shows its secret once.

    The bridge has to be running, because Nylas sends it a challenge at once.
    """
    from streams.commands.webhooks import create_webhook

    nylas, place = load_nylas(), _secret_place(secret_file, kubernetes_secret)
    sys.exit(
        create_webhook(
            nylas,
            url,
            compressed=compressed,
            description=description,
            place=place,
            second=second,
        )
    )


@webhooks.command(name="rotate")
@click.argument("destination_id")
@_SECRET_FILE
@_KUBERNETES_SECRET
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
def webhooks_rotate(
    *, destination_id: str, secret_file: Path | None, kubernetes_secret: str | None, dry_run: bool
) -> None:
    """Gives a destination a new secret, with which Nylas signs from then on.

    Until a bridge has the new secret it refuses notifications, and Nylas does not repeat those. So
    the command also requests a reconcile of every address book, 15 minutes later.
    """
    from streams.commands.webhooks import rotate_webhook

    nylas, kafka = load_nylas(), load(settings.KafkaSettings)
    place = _secret_place(secret_file, kubernetes_secret, dry_run=dry_run)
    sys.exit(rotate_webhook(nylas, kafka, destination_id, place=place, dry_run=dry_run))


@main.group()
def grants() -> None:
    """Shows the grants, and confirms the deletion of many at once."""


@grants.command(name="list")
@click.option("--expired", is_flag=True, help="Those whose owners have to sign in again.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def grants_list(*, expired: bool, as_csv: bool, as_json: bool) -> None:
    """Lists the application's grants, and why a grant is left out.

    The column `mailbox` says whether PEOPLE_MAILBOXES selects it, and by which entry.

    With --expired it says since when, and has for each mailbox the link by which its owner signs in
    again. The links need NYLAS_CLIENT_ID and NYLAS_REDIRECT_URI.
    """
    from streams.commands.grants import Format, list_expired, list_grants

    if as_csv and as_json:
        raise click.UsageError("--csv and --json: choose one")
    form = Format.CSV if as_csv else Format.JSON if as_json else Format.TABLE
    if expired:
        list_expired(load_nylas(), load(settings.KafkaSettings), form)
    else:
        list_grants(load_nylas(), load(settings.KafkaSettings), mailbox_rule(), form)


@grants.command(name="confirm")
@WHY
@ACTOR
@click.option("--dry-run", is_flag=True, help="List the grants that wait, and confirm nothing.")
def grants_confirm(*, why: str, actor: str | None, dry_run: bool) -> None:
    """Lets the contacts of deleted grants go that wait for a person.

    They wait when more grants were deleted within a day than the share READER_MAX_DELETE_SHARE.
    """
    from streams.commands.grants import confirm_deletions

    confirm_deletions(load(settings.KafkaSettings), why, actor, dry_run=dry_run)
