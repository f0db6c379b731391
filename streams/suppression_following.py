"""Follows contactstream.suppression into the policy of a process."""

from functools import partial

from connectors.salesforce.policy import Policy
from connectors.salesforce.suppression import GrowingSuppression
from streams.kafka.followed import FollowedTopic
from streams.settings import KafkaSettings
from streams.suppression import apply_record
from streams.topics import Topics


def followed_suppression(
    kafka: KafkaSettings, names: Topics, group_id: str, policy: Policy
) -> FollowedTopic:
    """The topic, whose entries go into the list of the policy. `group_id` is never joined.

    Raises TypeError for a policy whose list cannot grow, which `streams.org.policy` never makes.
    """
    listed = policy.suppression
    if not isinstance(listed, GrowingSuppression):
        raise TypeError("the list of the policy cannot grow")
    return FollowedTopic(kafka, names.suppression.name, group_id, partial(apply_record, listed))
