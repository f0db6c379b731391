"""Checks that the installed Faust is the one that `faust_batches` overrides parts of."""

import hashlib
import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

PINNED = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

# What `faust_batches` overrides or relies on, and the hash of its source: see `source_hash`.
SOURCES: dict[str, str] = {
    "faust.transport.consumer:Consumer.getmany": "4b168d84882a",
    "faust.transport.consumer:Consumer._wait_next_records": "6218e1969a63",
    "faust.transport.consumer:Consumer._new_offset": "1d2c7ea89a7a",
    "faust.transport.consumer:Consumer._filter_tps_with_pending_acks": "f6f923977423",
    "faust.transport.consumer:Consumer._should_commit": "5ce941793947",
    "faust.transport.consumer:Consumer._commit_offsets": "1a6979904118",
    "faust.transport.consumer:Consumer.perform_seek": "0e8c130ff4b0",
    "faust.transport.consumer:Consumer.stop_flow": "cf7e875a2b0d",
    "faust.transport.consumer:Consumer.resume_partitions": "afe6b7c02a41",
    "faust.transport.consumer:Consumer.pause_partitions": "27a1c94bdacd",
    "faust.transport.consumer:Consumer.on_partitions_revoked": "d04b7ae72c6f",
    "faust.transport.consumer:Consumer.on_partitions_assigned": "29ce96596f05",
    "faust.transport.consumer:Consumer.wait_empty": "e4662fe24f09",
    "faust.transport.consumer:Consumer.ack": "5fcf41cf4515",
    "faust.transport.consumer:Consumer._drain_messages": "44a2500309e8",
    "faust.transport.consumer:ThreadDelegateConsumer._getmany": "f9d47aa9010b",
    "faust.transport.drivers.aiokafka:ConsumerRebalanceListener": "f3d04f29dfb3",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.on_start": "38b4e8bd1e10",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "39a2c6c79fc1",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._seek_wait": "9d221e816d94",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit": "932852ce7a23",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "0870ec53dea7",
    "faust.tables.recovery:Recovery._add": "1584a197b11b",
    "faust.tables.recovery:Recovery._seek_offsets": "19598ca63d94",
    "faust.tables.recovery:Recovery.on_rebalance": "aa4d997a1795",
    "faust.tables.recovery:Recovery._restart_recovery": "6bd8a8558a2d",
    "faust.tables.recovery:Recovery._slurp_changelogs": "7825c7e50f76",
    "faust.tables.recovery:Recovery.on_recovery_completed": "6ef567acf072",
    "faust.tables.manager:TableManager.recovery": "f0bf5de78b4c",
    "faust.tables.manager:TableManager._update_channels": "88e3941facc9",
    "faust.tables.base:Collection.persisted_offset": "d473d3ab3fd6",
    "faust.tables.base:Collection.apply_changelog_batch": "b980a78d3ae9",
    "faust.tables.base:Collection.on_start": "daddcc354ad0",
    "faust.app.base:App._new_transport": "42db531312dd",
    "faust.app.base:App._stop_consumer": "55854a5de12c",
    "faust.app.base:App._on_partitions_revoked": "d5c895bbe57d",
    "faust.app.base:App._on_partitions_assigned": "de932b7927db",
    "faust.app.base:App.on_rebalance_start": "5c1e23de3067",
    "faust.app.base:App.on_rebalance_end": "b7ff69e1e377",
    "faust.app.base:App.on_first_start": "ec655d9c2234",
    "faust.streams:Stream._c_aiter": "fa44582a5882",
    "faust.events:Event.ack": "2d29a6eda87c",
    "faust.types.tuples:Message.ack": "4751b72c4ed8",
    "mode.utils.queues:FlowControlEvent.resume": "4dcdc1253fd0",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.commit": "79b057d88220",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.committed": "d8706147ab15",
    "aiokafka.consumer.consumer:AIOKafkaConsumer.seek_to_committed": "f6cd85c8b70a",
    "aiokafka.consumer.fetcher:Fetcher._get_actions_per_node": "1dab2cf937d1",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records": "be4348896b9b",
    "aiokafka.consumer.fetcher:FetchResult.getall": "3e717e30de50",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._do_heartbeat": "dc1d6632aaa6",
    "aiokafka.consumer.group_coordinator:GroupCoordinator.fetch_committed_offsets": "6c049c737916",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._heartbeat_routine": "61d010289522",
    "aiokafka.consumer.group_coordinator:GroupCoordinator.reset_generation": "537aa37c531b",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._push_error_to_user": "743ff515bd7e",
}


class IncompatibleFaust(RuntimeError):
    """The installed Faust is not the one that `faust_batches` overrides parts of."""


def check_faust(pinned: Mapping[str, str] = PINNED, sources: Mapping[str, str] = SOURCES) -> None:
    """Raises IncompatibleFaust unless every part that is overridden or relied on is as tested.

    The versions alone do not show a patched installation, so the sources are compared as well.
    """
    for package, wanted in pinned.items():
        if version(package) != wanted:
            raise IncompatibleFaust(
                f"{package} {version(package)} is installed, {wanted} is required: "
                "install deploy/requirements.lock"
            )
    for target, wanted in sources.items():
        found = source_hash(target)
        if found != wanted:
            raise IncompatibleFaust(
                f"{target} is not the one that streams/dedupe/faust_batches.py was written for "
                f"(source {found} instead of {wanted}). Install deploy/requirements.lock; after an "
                "intended upgrade read the difference, run tests/faults, then note the new hash in "
                "streams/dedupe/faust_check.py"
            )


def source_hash(target: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the source of `module:qualified.name`."""
    module, _, path = target.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "fun", found)  # of a mode task
    found = found.fget if isinstance(found, property) else found
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()[:12]
