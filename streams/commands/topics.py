"""The command topics: creates the topics, or compares them with their policies."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.admin import check, create, refusal
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings
from streams.topics import topics

# A person waits for the command, but a broker that is just starting should be reached.
BROKER_WAIT_SECONDS = 30.0


def create_topics(kafka: KafkaSettings, *, dry_run: bool) -> None:
    """Creates the missing topics, or prints which are missing. Raises click.ClickException."""
    wanted = topics(kafka).all()
    with _admin_client(kafka) as admin:
        if dry_run:
            for finding in check(admin, wanted):
                click.echo(f"{finding.topic}: {finding.problem}")
            return
        for name in create(admin, wanted):
            click.echo(f"created {name}")


def check_topics(kafka: KafkaSettings) -> int:
    """Prints where a topic differs from its policy; returns the exit code.

    It is that of the stages when a number of partitions keeps them from starting, else 1.
    Raises click.ClickException when the broker does not answer or refuses.
    """
    with _admin_client(kafka) as admin:
        findings = check(admin, topics(kafka).all())
    for finding in findings:
        click.echo(f"{finding.topic} {finding.problem}\n    {finding.remedy}")
    if not findings:
        click.echo("every topic matches its policy")
    if any(finding.stops_stages for finding in findings):
        return ExitCode.PARTITION_COUNT_MISMATCH
    return 1 if findings else 0


@contextmanager
def _admin_client(kafka: KafkaSettings) -> Iterator[AdminClient]:
    """An admin client of a broker that answers.

    A refusal by the broker inside the block becomes a click.ClickException with the remedy.
    """
    try:
        wait_for_broker(
            kafka,
            [],
            stopped=lambda: False,
            waiting=_ReasonPrinter(),
            deadline=BROKER_WAIT_SECONDS,
        )
        yield AdminClient(client_config(kafka))
    except BrokerUnavailable as error:
        raise click.ClickException(
            f"{error}\ncheck KAFKA_BOOTSTRAP_SERVERS, KAFKA_SECURITY_PROTOCOL and the credentials, "
            "and that the broker runs"
        ) from None
    except KafkaException as error:
        raise click.ClickException(refusal(error)) from None


class _ReasonPrinter:
    """Prints the reason for waiting on stderr, once each time that it changes."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, reason: str) -> None:
        if reason != self._last:
            click.echo(reason, err=True)
            self._last = reason
