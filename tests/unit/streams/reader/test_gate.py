"""The gate that bulk reading waits at, and the lag that it looks at."""

import asyncio

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.lag import lag
from streams.reader import gate as gate_module
from streams.reader.gate import Gate


def test_lag_counts_from_the_commit_or_from_the_start_of_what_is_left() -> None:
    assert lag({0: 5, 1: -1001}, {0: 0, 1: 10}, {0: 8, 1: 15}) == 3 + 5
    assert lag({}, {}, {0: 4}) == 4
    assert lag({0: 2}, {0: 6}, {0: 8}) == 2, "what expired is nobody's lag any more"
    assert lag({0: 9}, {0: 0}, {0: 8}) == 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LAG_CHECK_SECONDS", 0.01)


async def test_nothing_passes_while_the_stages_behind_are_behind() -> None:
    behind, waits = [500], []
    gate = Gate(lambda: behind[0], 300, lambda: waits.append(1))
    passing = asyncio.create_task(gate.wait(200))
    done, _ = await asyncio.wait([passing], timeout=0.1)
    assert not done
    assert waits
    behind[0] = 10
    await asyncio.wait_for(passing, 5)


async def test_what_was_let_through_counts_before_it_shows_as_lag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "LAG_CHECK_SECONDS", 60.0)
    looks: list[int] = []
    gate = Gate(lambda: looks.append(1) or 0, 300, lambda: None)  # type: ignore[func-returns-value]
    for _ in range(4):
        await gate.wait(200)
    assert len(looks) == 2, "it looks again after as much as the bound"


async def test_a_broker_that_does_not_answer_is_waited_for() -> None:
    answers: list[int | Exception] = [KafkaException(KafkaError(KafkaError._TRANSPORT)), 0]

    def read() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await asyncio.wait_for(Gate(read, 10, lambda: None).wait(1), 5)
    assert not answers
