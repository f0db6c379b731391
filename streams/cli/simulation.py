"""Simulators of Nylas and Salesforce, and the demo that is made of them."""

import asyncio
import sys
from pathlib import Path

import click

from streams.cli.loading import load_nylas
from streams.cli.root import main


@main.group()
def simulate() -> None:
    """Simulators of Nylas and Salesforce, for demos and tests."""


_INITIAL_STATE = click.option(
    "--world",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with the initial state.",
)
_LISTEN = click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    help="host:port; port 0 takes a free port.",
)
_FEWEST_PEOPLE = click.IntRange(min=30)  # fewer are not enough for every kind of notification
_PEOPLE = click.option(
    "--people",
    type=_FEWEST_PEOPLE,
    help="Start with the data of the demo, with so many people, instead of a file.",
)
_SEED = click.option(
    "--seed", default=1, show_default=True, help="The same seed makes the same people."
)


def _refuse_two_states(world: Path | None, people: int | None) -> None:
    if world is not None and people is not None:
        raise click.UsageError("--world and --people are two initial states; give one of them")


@simulate.command(name="nylas")
@_LISTEN
@_INITIAL_STATE
@_PEOPLE
@_SEED
@click.option(
    "--webhook", "webhook_url", help="Send notifications to this URL. Only with --people."
)
@click.option(
    "--webhook-secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file with the secret that signs them, which the bridge has as well.",
)
def simulate_nylas(
    *,
    listen: str,
    world: Path | None,
    people: int | None,
    seed: int,
    webhook_url: str | None,
    webhook_secret_file: Path | None,
) -> None:
    """Simulates Nylas with grants, contacts and signed webhooks."""
    from connectors.nylas.simulator.app import serve
    from streams.demo.scenario import initial_data, webhook

    _refuse_two_states(world, people)
    host, _, port = listen.rpartition(":")
    if people is None:
        if webhook_url is not None:
            raise click.UsageError("--webhook goes with --people; a file of --world has its own")
        serve(host, int(port), world)
        return
    books, _org = initial_data(people, seed)
    if webhook_url is not None:
        if webhook_secret_file is None:
            raise click.UsageError("--webhook needs --webhook-secret-file")
        books |= webhook(webhook_url, webhook_secret_file.read_text().strip())
    serve(host, int(port), books)


@simulate.command(name="salesforce")
@_LISTEN
@_INITIAL_STATE
@_PEOPLE
@_SEED
def simulate_salesforce(*, listen: str, world: Path | None, people: int | None, seed: int) -> None:
    """Simulates a Salesforce org with Accounts, Contacts and Leads."""
    from connectors.salesforce.simulator.server import serve
    from streams.demo.scenario import initial_data

    _refuse_two_states(world, people)
    host, _, port = listen.rpartition(":")
    if people is None:
        serve(host, int(port), world)
        return
    _books, org = initial_data(people, seed)
    serve(host, int(port), org)


@simulate.command(name="notifications")
@click.option("--people", type=_FEWEST_PEOPLE, required=True, help="As for `simulate nylas`.")
@_SEED
def simulate_notifications(*, people: int, seed: int) -> None:
    """Has the simulated Nylas send the demo's live notifications.

    NYLAS_API_URL is the simulator's address. It was started with the same --people and --seed, and
    with --webhook. The command returns when every notification has been answered.
    """
    from streams.demo.notifications import send

    nylas = load_nylas()
    sent = asyncio.run(send(nylas.api_url, nylas.api_key.get_secret_value(), people, seed))
    click.echo(f"{sent} notifications sent")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
@click.option("--stay", is_flag=True, help="Keep everything running, and print where to look.")
@click.option(
    "--people",
    type=_FEWEST_PEOPLE,
    default=2000,
    show_default=True,
    help="How many people the three address books hold.",
)
@_SEED
def demo(*, as_json: bool, stay: bool, people: int, seed: int) -> None:
    """Runs the whole product on this machine, without an account.

    Nylas and Salesforce are simulated. It reports what each stage did.
    """
    from streams.demo.runner import run

    sys.exit(asyncio.run(run(people=people, seed=seed, as_json=as_json, stay=stay)))
