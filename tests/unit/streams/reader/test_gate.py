"""The gate that bulk reading waits at, and the lag that it measures."""

import asyncio

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.lag import lag
from streams.reader import gate as gate_module
from streams.reader.gate import Gate


def test_lag_counts_from_the_commit_or_from_the_start_of_the_log() -> None:
    assert lag({0: 5, 1: -1001}, {0: 0, 1: 10}, {0: 8, 1: 15}) == 3 + 5
    assert lag({}, {}, {0: 4}) == 4
    assert lag({0: 2}, {0: 6}, {0: 8}) == 2, "expired records do not count"
    assert lag({0: 9}, {0: 0}, {0: 8}) == 0


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LAG_CHECK_SECONDS", 0.01)


async def test_the_gate_stays_closed_while_the_lag_is_above_the_bound() -> None:
    lag_now, waits = [500], list[str]()
    gate = Gate(lambda: lag_now[0], 300, waits.append)
    passing = asyncio.create_task(gate.wait(200))
    done, _ = await asyncio.wait([passing], timeout=0.1)
    assert not done
    assert set(waits) == {"sink_lag"}
    lag_now[0] = 10
    await asyncio.wait_for(passing, 5)


async def test_records_that_were_let_through_count_before_they_show_as_lag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "LAG_CHECK_SECONDS", 60.0)
    checks: list[int] = []
    gate = Gate(lambda: checks.append(1) or 0, 300, lambda _: None)  # type: ignore[func-returns-value]
    for _ in range(4):
        await gate.wait(200)
    assert len(checks) == 2, "the lag is measured again once the bound was let through"


async def test_a_broker_that_does_not_answer_is_waited_for() -> None:
    answers: list[int | Exception] = [KafkaException(KafkaError(KafkaError._TRANSPORT)), 0]

    def read() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await asyncio.wait_for(Gate(read, 10, lambda _: None).wait(1), 5)
    assert not answers


async def test_the_gate_stays_closed_while_a_breaker_is_open_although_nothing_lags() -> None:
    stopped, waits = ["breaker"], list[str]()
    gate = Gate(lambda: 0, 300, waits.append, lambda: stopped[0])
    passing = asyncio.create_task(gate.wait(200))
    done, _ = await asyncio.wait([passing], timeout=0.1)
    assert not done
    assert set(waits) == {"breaker"}
    stopped[0] = ""
    await asyncio.wait_for(passing, 5)
    stopped[0] = "breaker"
    passing = asyncio.create_task(gate.wait(1))
    done, _ = await asyncio.wait([passing], timeout=0.1)
    assert not done, "a breaker that opens counts at once, whatever room was measured"
    stopped[0] = ""
    await asyncio.wait_for(passing, 5)
