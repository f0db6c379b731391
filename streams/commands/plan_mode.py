"""The mode in which `contactstream plan` plans, and where it comes from."""

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from connectors.salesforce.write_mode import WriteMode
from streams.commands.mode import current_mode
from streams.control_mode import ModeInForce, mode_in_force
from streams.kafka.clients import METADATA_SECONDS, client_config
from streams.settings import KafkaSettings, SalesforceSettings
from streams.topics import topics

NOT_CHOSEN = (
    "nobody has chosen a mode, so that the sink does not start; see contactstream mode for what "
    "the others write"
)


def mode_of_plan(
    kafka: KafkaSettings, org: SalesforceSettings, asked: WriteMode | None
) -> ModeInForce:
    """The mode that `--mode` asks for; else the one in force, as the sink would find it.

    A plan needs no Kafka: where it cannot be read, SALESFORCE_MODE counts, and the origin says so.
    Blocks.
    """
    if asked is not None:
        return ModeInForce(asked, "--mode")
    try:
        _require_topics(kafka)
        found = current_mode(kafka, org)
    except (click.ClickException, KafkaException) as error:
        return without_kafka(org.mode, _reason(error))
    return found or ModeInForce(WriteMode.MIRROR, NOT_CHOSEN)


def without_kafka(setting: str, problem: str) -> ModeInForce:
    """The mode where Kafka cannot be read. `setting` is SALESFORCE_MODE, empty for none."""
    found = mode_in_force(None, setting, has_outcomes=False)
    why = f"Kafka cannot be read, so that a mode that was set is not known: {problem}"
    if found is None:
        return ModeInForce(WriteMode.MIRROR, f"SALESFORCE_MODE is not set, and {why}")
    return ModeInForce(found.mode, f"{found.origin}; {why}")


def _require_topics(kafka: KafkaSettings) -> None:
    """Raises click.ClickException or KafkaException within METADATA_SECONDS without the topics.

    Commands that need Kafka wait for a broker that is just starting; a plan does not have to.
    """
    names = topics(kafka)
    config = client_config(kafka) | {"log_level": 0, "error_cb": lambda _: None}
    known = AdminClient(config).list_topics(timeout=METADATA_SECONDS).topics
    for topic in (names.control.name, names.outcomes.name):
        if topic not in known:
            raise click.ClickException(f"no topic {topic}; see contactstream topics create")


def _reason(error: click.ClickException | KafkaException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    return str(error.args[0].str())
