"""Says in the group's commit whether its writer may have calls of the org without an answer.

A commit carries text of the client's choice. The writer commits CALLS_MAY_BE_OPEN before its first
call, and CALLS_ENDED when it gives the partition up and every call was answered. A writer that is
killed cannot say the latter: its successor then waits before it releases a record or lets another
contact take one over (see `connectors.salesforce.unanswered_calls`).
"""

from confluent_kafka import TopicPartition

CALLS_MAY_BE_OPEN = "calls-may-be-open"
CALLS_ENDED = "calls-ended"


def predecessor_may_have_calls(committed: TopicPartition) -> bool:
    """Whether the writer of this commit may still have calls; not if there never was a commit."""
    notes = (committed.metadata or "").split()
    return committed.offset >= 0 and CALLS_ENDED not in notes
