"""What dedupe does when the broker refuses its user: it ends, and names what is missing."""

from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from streams.kafka.access import acls_command
from streams.runtime.exit_codes import ExitCode


def refusal(error: BaseException | None) -> tuple[ExitCode, str] | None:
    """The exit code and the reason for an error by which a broker refuses; None for any other.

    aiokafka's error names the group or the topics.
    """
    if not isinstance(error, GroupAuthorizationFailedError | TopicAuthorizationFailedError):
        return None
    return (
        ExitCode.KAFKA_REFUSED,
        f"{error}; our user needs what this prints: {acls_command()}",
    )
