"""The command topics: creates the topics, compares them with their policies, and mends them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka.admin import absent, alter, check, check_until_altered, create, refusal
from streams.kafka.clients import BrokerUnavailable, client_config, wait_for_broker
from streams.kafka.topic_policy import TopicFinding
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
            for topic in absent(admin, wanted):
                click.echo(f"{topic.name}: does not exist")
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
    return _exit_code(findings)


def alter_topics(kafka: KafkaSettings, *, dry_run: bool) -> int:
    """Makes every change that is safe while the topics are in use; returns the exit code.

    Prints each change, and what is left with the reason. What is left decides the exit code, as in
    `check_topics`. With `dry_run` it changes nothing, and what it would leave decides. Raises
    click.ClickException when the broker does not answer.
    """
    wanted = topics(kafka).all()
    refused: Mapping[str, KafkaException] = {}
    with _admin_client(kafka) as admin:
        findings = check(admin, wanted)
        changes = [finding for finding in findings if finding.change is not None]
        left = [finding for finding in findings if finding.change is None]
        if changes and not dry_run:
            refused = alter(admin, changes)
            left = check_until_altered(admin, wanted, refused)
    for finding in changes:
        if finding.topic not in refused and (change := finding.change):
            click.echo(f"{finding.topic} {change.name}: {change.found} -> {change.wanted}")
    for topic, error in refused.items():
        click.echo(f"{topic} stays as it is: {refusal(error)}")
    for finding in left:
        click.echo(f"{finding.topic} {finding.problem}: not changed\n    {finding.remedy}")
    if changes and dry_run:
        click.echo("nothing was changed; without --dry-run the lines with -> would be")
    elif not left:
        click.echo("every topic matches its policy")
    return _exit_code(left)


def _exit_code(findings: Sequence[TopicFinding]) -> int:
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
