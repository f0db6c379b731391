"""Has `contactstream plan` leave out the people on contactstream.suppression."""

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.policy import Policy
from connectors.salesforce.suppression import GrowingSuppression
from streams.commands.topic_records import topic_records
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.settings import KafkaSettings
from streams.suppression import apply_record
from streams.topics import topics


class KafkaAway(click.ClickException):
    """No broker answered."""


def add_suppressed(kafka: KafkaSettings, allowed: Policy) -> None:
    """Adds the entries of the topic to the list of a policy that `streams.org.policy` made. Blocks.

    Raises KafkaAway within METADATA_SECONDS where no broker answers, for a plan needs none; and
    click.ClickException where the topic cannot be read.
    """
    listed = allowed.suppression
    if not isinstance(listed, GrowingSuppression):
        return
    topic = topics(kafka).suppression.name
    config = client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None}
    try:
        known = AdminClient(config).list_topics(timeout=METADATA_SECONDS).topics
    except KafkaException as error:
        raise KafkaAway(str(error.args[0].str())) from error
    if topic not in known:
        raise click.ClickException(f"no topic {topic}; see contactstream topics create")
    for record in topic_records(kafka, topic):
        apply_record(listed, record)
