"""What a sink logs of the records that it gives up: where they are, and not who they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from structlog.testing import capture_logs

from connectors.salesforce.api.client import Fence
from connectors.salesforce.outcome import ContactVersion, Outcome, OutcomeStatus
from connectors.salesforce.unanswered_calls import UnansweredCalls
from streams.kafka.records import KafkaRecord
from streams.runtime.logs import MAX_DEAD_LETTER_LINES, log_dead_letters, reference
from tests.support.sink_harness import NAMES, running_sink

ADDRESS = "ariadne@labyrinth.example"


class RefusingOrg:
    """A stand-in for Sync that refuses every contact, and cannot say what it claims."""

    def __init__(self) -> None:
        self.unanswered = UnansweredCalls()
        self.is_started = True

    def needed(self, contact: Mapping[str, Any]) -> dict[str, Any]:
        return dict(contact)

    def claims(self, _change: ContactVersion) -> frozenset[str]:
        raise LookupError(ADDRESS)

    async def restore(self) -> None:
        pass

    async def sync(
        self, changes: Sequence[ContactVersion], fence: Fence, _rules: object
    ) -> list[Outcome]:
        fence()
        return [
            Outcome(each.key, OutcomeStatus.FAILED, reason="string_too_long") for each in changes
        ]


async def test_a_line_about_a_contact_has_its_record_and_no_personal_data() -> None:
    with capture_logs() as lines:
        async with running_sink(RefusingOrg()) as sink:
            sink.offer("grant/ariadne", 1, {"surname": "Ariadne", "emails": [{"email": ADDRESS}]})
            bad = KafkaRecord(NAMES.changes.name, b"grant/ariadne", ADDRESS.encode(), [], 0, 1)
            with sink.consumer.lock:
                sink.consumer.log.append(bad)
            await sink.until_committed()
    place = {"topic": NAMES.changes.name, "partition": 0, "contact": reference("grant/ariadne")}
    given_up = {line["offset"]: line for line in lines if line["event"] == "record dead-lettered"}
    assert {offset: line["reason"] for offset, line in given_up.items()} == {
        0: "string_too_long",
        1: "not_a_change",
    }
    assert all(line.items() >= place.items() for line in given_up.values())
    (claims,) = [line for line in lines if line["event"].startswith("could not compute")]
    assert claims.items() >= (place | {"offset": 0}).items()
    assert "ariadne" not in str(lines).lower()


def test_an_org_that_refuses_everything_does_not_fill_the_log() -> None:
    letters = [
        (KafkaRecord("contacts.changes", b"g/%d" % number, b"", [], 0, number), "locked")
        for number in range(1000)
    ]
    with capture_logs() as lines:
        log_dead_letters(structlog.get_logger(), letters)
    assert [line["offset"] for line in lines[:-1]] == list(range(MAX_DEAD_LETTER_LINES))
    assert lines[-1]["records"] == 1000 - MAX_DEAD_LETTER_LINES
