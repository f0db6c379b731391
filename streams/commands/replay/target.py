"""Another deployment in the same cluster that a replay fills: that it exists, and what it is."""

from collections.abc import Mapping

from streams.runs import ReplayTarget
from streams.selection import UnusableSelection
from streams.settings import KafkaSettings
from streams.topics import topics


def check_target(kafka: KafkaSettings, prefix: str, partitions: Mapping[str, int]) -> ReplayTarget:
    """The deployment with this topic prefix; `partitions` are those of every topic in the cluster.

    Raises UnusableSelection when it is this deployment, or when a topic of its flow is missing.
    """
    if prefix == kafka.topic_prefix:
        raise UnusableSelection(
            f"--to-prefix {prefix or '(empty)'} is this deployment itself: leave the option out"
        )
    theirs = topics(kafka.model_copy(update={"topic_prefix": prefix}))
    flow = (theirs.events, theirs.changes, theirs.outcomes, theirs.dead_letter, theirs.control)
    if missing := [topic.name for topic in flow if topic.name not in partitions]:
        raise UnusableSelection(
            f"--to-prefix {prefix}: {', '.join(missing)} does not exist in this cluster; create "
            f"the topics with: KAFKA_TOPIC_PREFIX={prefix} contactstream topics create"
        )
    return ReplayTarget(prefix, partitions[theirs.events.name])


def target_objection(target: ReplayTarget | None, is_sandbox: bool | None) -> str | None:
    """Why a replay into another deployment must not start; None if it may.

    The settings of the target's org are not known here, so that a person has to say what it is.
    """
    if target is None or is_sandbox is not None:
        return None
    return (
        f"say what the org behind {target.prefix} is, which cannot be seen from here: --sandbox, "
        "or --production to fill the org that people work with"
    )
