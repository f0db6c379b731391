"""Requests that move partitions of a cluster, which confluent-kafka cannot send.

It has no request for reassignments, and its elect_leaders raises a SystemError (2.16).
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

# A request to a cluster whose controllers may just be electing one of them.
REQUEST_SECONDS = 30.0
ELECTION_NOT_NEEDED = 84

Replicas = Mapping[tuple[str, int], Sequence[int]]
"""By topic and partition, the brokers that hold it. The first is the preferred leader."""


class Election(IntEnum):
    """Who may become the leader."""

    PREFERRED = 0
    """The first replica, when it is in sync."""
    UNCLEAN = 1
    """Any replica, when none is in sync. What it lacks is given up."""


class RefusedError(RuntimeError):
    """The cluster did not do it, at least for some partitions."""


class _ElectLeadersResponse(Response):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "results",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition_index", Int32),
                        ("error_code", Int16),
                        ("error_message", String("utf-8")),
                    ),
                ),
            ),
        ),
    )


class _ElectLeadersStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 1
    RESPONSE_TYPE = _ElectLeadersResponse
    SCHEMA = Schema(
        ("election_type", Int8),
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class _ElectLeaders(Request[_ElectLeadersStruct]):  # type: ignore[misc]
    API_KEY = 43

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[_ElectLeadersStruct]) -> _ElectLeadersStruct:
        return request_struct_class(*self._fields)


async def reassign(bootstrap: str, wanted: Replicas) -> None:
    """Has the cluster move partitions; the copying goes on afterwards. Raises RefusedError."""
    topics: list[Any] = [
        (topic, [(number, list(brokers), {})], {}) for (topic, number), brokers in wanted.items()
    ]
    milliseconds = int(REQUEST_SECONDS * 1000)
    answer = await _send(bootstrap, AlterPartitionReassignmentsRequest(milliseconds, topics, {}))
    codes = [code for _, some, _ in answer.responses for _, code, _, _ in some]
    if any((answer.error_code, *codes)):
        raise RefusedError(f"partitions were not moved: {answer.error_code}, {set(codes)}")


async def elect(bootstrap: str, kind: Election, partitions: Sequence[tuple[str, int]]) -> None:
    """Has the cluster elect leaders, where another one can be had. Raises RefusedError."""
    topics = [(topic, [number]) for topic, number in partitions]
    milliseconds = int(REQUEST_SECONDS * 1000)
    answer = await _send(bootstrap, _ElectLeaders(int(kind), topics, milliseconds))
    codes = {code for _, some in answer.results for _, code, _ in some} - {ELECTION_NOT_NEEDED}
    if any((answer.error_code, *codes)):
        raise RefusedError(f"no leaders were elected: {answer.error_code}, {codes}")


async def _send(bootstrap: str, request: Any) -> Any:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        return await client.send(client.get_random_node(), request)
    finally:
        await client.close()
