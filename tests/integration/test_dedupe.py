"""The dedupe process on a real broker: what it forwards, where it starts, and how it ends."""

import signal
import sys
import time
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from deploy.local.broker import Broker
from streams.kafka.clients import MAX_MESSAGE_BYTES
from streams.runtime.exit_codes import ExitCode
from tests.faults.harness.variants import FOLDER
from tests.support.dedupe_load import (
    Load,
    account,
    changes_end,
    committed,
    create_topics,
    environ,
    event,
    wait_changes,
    wait_done,
)
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.letters import failed_found
from tests.support.processes import Processes
from tests.support.waiting import wait_until

WEBHOOK: list[tuple[str, str | bytes | None]] = [
    ("origin", b"webhook"),
    ("received_ms", b"1700000000000"),
]


def test_changes_are_forwarded_and_other_events_counted(kafka: Kafka, processes: Processes) -> None:
    create_topics(kafka, 2)
    key, first = event(1, 1)
    _, again = event(1, 1, id_="another notification, the same content")
    _, stale = event(1, 0)
    _, newer = event(1, 2)
    bare = (
        b'{"type":"contact.updated","id":"n","time":1700000009,'
        b'"data":{"object":{"grant_id":"g0","id":"b","object":"contact"}}}'
    )
    sent = [
        (key, first),
        (key, first),
        (key, again),
        (key, stale),
        (key, newer),
        (b"poison", b"{"),
        (b"g0/b", bare),
    ]
    kafka.produce("contacts.events", sent, WEBHOOK)
    began = time.time()
    worker = processes.start("dedupe", environ=environ(kafka, 2)).wait_ready()
    wait_done(kafka, len(sent))

    assert account(kafka.read("contacts.changes")).versions == {key: [1, 2]}
    (dead,) = map(failed_found, kafka.read("contacts.dead-letter"))
    assert (dead.key, dead.value, dead.headers["dlq.reason"]) == (b"poison", b"{", b"not_json")
    (asked,) = kafka.read("contacts.refetch")
    assert (asked.key, asked.headers["reason"]) == (b"g0/b", b"bodyless")
    assert worker.metric("contactstream_dedupe_events_total") == len(sent)
    assert worker.metric("contactstream_dedupe_forwarded_total") == 2
    dropped = {
        reason: worker.metric("contactstream_dedupe_dropped_total", reason=reason)
        for reason in ("stale", "duplicate", "retry")
    }
    assert dropped == {"stale": 1, "duplicate": 1, "retry": 1}
    assert worker.metric("contactstream_dedupe_dead_lettered_total", reason="not_json") == 1
    assert worker.metric("contactstream_dedupe_refetch_total", reason="bodyless") == 1
    assert worker.metric("contactstream_dedupe_table_entries") == 2
    wait_until(
        lambda: worker.metric("contactstream_dedupe_oldest_unfinished_timestamp_seconds") > began,
        "no event of 2023 is unfinished",
    )
    assert worker.stop() == 0
    assert "g0" not in worker.log, "no contact key in the log"


def test_a_restarted_worker_still_knows_which_versions_were_seen(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, 4)
    kafka.produce("contacts.events", [event(contact, 5) for contact in range(300)], WEBHOOK)
    first = processes.start("dedupe", environ=environ(kafka, 4)).wait_ready()
    wait_done(kafka, 300)
    assert first.stop() == 0

    stale_and_new = [event(contact, version) for contact in range(300) for version in (5, 4, 6)]
    kafka.produce("contacts.events", stale_and_new, WEBHOOK)
    second = processes.start("dedupe", environ=environ(kafka, 4)).wait_ready()
    wait_done(kafka, 1200)
    assert second.metric("contactstream_dedupe_table_entries") == 300
    found = account(kafka.read("contacts.changes")).versions
    assert set(map(tuple, found.values())) == {(5, 6)}


def test_a_partition_without_events_is_committed_too(kafka: Kafka, processes: Processes) -> None:
    create_topics(kafka, 3)
    processes.start("dedupe", environ=environ(kafka, 3)).wait_ready()
    wait_until(
        lambda: set(committed(kafka).values()) == {0}, "the start of each partition is committed"
    )


def test_a_worker_waits_for_its_topics_and_reports_it(kafka: Kafka, processes: Processes) -> None:
    worker = processes.start("dedupe", environ=environ(kafka, 2))
    wait_until(
        lambda: "topics are missing" in worker.ask("/readyz")[1],
        "the worker reports what it waits for",
    )
    assert worker.ask("/livez")[0] == 200
    create_topics(kafka, 2)
    worker.wait_ready()


def test_a_worker_waits_for_the_broker_and_can_be_stopped_meanwhile(
    own_broker: Broker, processes: Processes
) -> None:
    kafka = Kafka(own_broker.bootstrap, "w.")
    create_topics(kafka, 2)
    own_broker.stop()
    worker = processes.start("dedupe", environ=environ(kafka, 2))
    impatient = processes.start("dedupe", environ=environ(kafka, 2))
    wait_until(lambda: "no broker answers" in worker.ask("/readyz")[1], "the worker reports it")
    wait_until(lambda: "no broker answers" in impatient.ask("/readyz")[1], "the other one does")
    assert impatient.stop(10.0) == 0
    assert worker.ask("/livez")[0] == 200
    own_broker.start()
    worker.wait_ready()


def test_a_committed_offset_below_the_log_ends_the_worker(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, 1)
    kafka.produce("contacts.events", [event(contact, 1) for contact in range(20)], WEBHOOK)
    first = processes.start("dedupe", environ=environ(kafka, 1)).wait_ready()
    wait_done(kafka, 20)
    assert first.stop() == 0
    kafka.produce("contacts.events", [event(contact, 2) for contact in range(20)], WEBHOOK)
    expired = TopicPartition(kafka.name("contacts.events"), 0, 30)
    admin = kafka.admin()
    next(iter(admin.delete_records([expired]).values())).result(REQUEST_SECONDS)

    second = processes.start("dedupe", environ=environ(kafka, 1))
    assert second.popen.wait(30) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "below the start of the log" in second.log
    assert committed(kafka) == {0: 20}


def test_a_committed_offset_beyond_the_log_ends_the_worker(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, 1)
    kafka.produce("contacts.events", [event(contact, 1) for contact in range(20)], WEBHOOK)
    admin = kafka.admin()
    behind = ConsumerGroupTopicPartitions(
        f"{kafka.prefix}contactstream-dedupe",
        [TopicPartition(kafka.name("contacts.events"), 0, 100)],
    )
    next(iter(admin.alter_consumer_group_offsets([behind]).values())).result(REQUEST_SECONDS)

    worker = processes.start("dedupe", environ=environ(kafka, 1))
    assert worker.popen.wait(30) == ExitCode.OFFSET_OUT_OF_RANGE
    assert "beyond the end of the log" in worker.log


def test_a_backlog_of_large_notes_that_compress_well_takes_bounded_memory(
    kafka: Kafka, processes: Processes
) -> None:
    # 1.2 GB, which take some megabytes on the broker.
    contacts, notes = 800, b'"notes":"' + b"n" * 1_500_000 + b'",'
    create_topics(kafka, 1)
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "compression.type": "lz4",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "queue.buffering.max.kbytes": 32 * 1024,
        }
    )
    for number in range(contacts):
        key, value = event(number, 1)
        value = value.replace(b'"given_name"', notes + b'"given_name"')
        while True:
            try:
                producer.produce(kafka.name("contacts.events"), value, key, headers=WEBHOOK)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0

    worker = processes.start("dedupe", environ=environ(kafka, 1)).wait_ready()
    peak = 0

    def done() -> bool:
        nonlocal peak
        assert worker.exit_code is None, worker.log[-3000:]
        peak = max(peak, worker.rss)
        return committed(kafka)[0] == contacts

    wait_until(done, "every event is committed", 120.0)
    assert changes_end(kafka) == contacts
    print(f"at most {peak / 2**20:.0f} MB resident")
    assert peak < 600 * 2**20


def test_topics_with_another_partition_count_end_the_worker(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, 2)
    worker = processes.start("dedupe", environ=environ(kafka, 3))
    assert worker.popen.wait(30) == ExitCode.PARTITION_COUNT_MISMATCH
    assert "instead of 3" in worker.log


def test_a_stop_under_load_is_orderly_and_repeats_nothing(
    kafka: Kafka, processes: Processes
) -> None:
    create_topics(kafka, 4)
    with Load(kafka, 500, rate=400) as load:
        for _ in range(2):
            before = changes_end(kafka)
            worker = processes.start("dedupe", environ=environ(kafka, 4))
            wait_changes(kafka, before + 1)
            assert worker.stop() == 0
        processes.start("dedupe", environ=environ(kafka, 4)).wait_ready()
    wait_done(kafka, load.sent)
    found = account(kafka.read("contacts.changes"))
    assert found.missing(500, load.versions) == []
    assert found.duplicates == 0


def test_a_pause_after_the_orderly_stop_does_not_change_the_exit_code(
    kafka: Kafka, processes: Processes
) -> None:
    """The interpreter takes a second or two to end, and longer without a processor."""
    session = 6.0
    create_topics(kafka, 2)
    given = environ(kafka, 2) | {"DEDUPE_SESSION_TIMEOUT": str(session)}
    worker = processes.start("dedupe", environ=given).wait_ready()
    worker.send(signal.SIGTERM)
    wait_until(lambda: '"event": "stopped"' in worker.log, "the work is done")
    worker.pause()
    assert worker.exit_code is None, "the interpreter had not ended yet"
    time.sleep(0.6 * session)  # longer than half of the session, which ends a worker with work
    worker.resume()
    assert worker.popen.wait(30) == 0, worker.log[-3000:]


def test_a_broker_that_stays_away_ends_the_worker_and_loses_nothing(
    own_broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    kafka = Kafka(own_broker.bootstrap, "a.")
    create_topics(kafka, 2)
    kafka.produce("contacts.events", [event(contact, 1) for contact in range(300)], WEBHOOK)
    moment = tmp_path / "before_outputs"  # a batch is decided, and not published yet
    moment.touch()
    given = environ(kafka, 2) | {FOLDER: str(tmp_path)}
    worker = processes.start(
        "dedupe",
        command=(sys.executable, "-m", "tests.faults.harness.variants", "whole"),
        environ=given | {"FAULTS_ELECTION_SECONDS": "3"},
    )
    wait_until(
        (tmp_path / "before_outputs.reached").exists, "the worker is in the middle of a batch", 60.0
    )
    own_broker.pause()
    moment.unlink()
    try:
        ended = worker.popen.wait(30)
    finally:
        own_broker.resume()
    assert ended in (ExitCode.NOT_ACKNOWLEDGED, ExitCode.NO_HEARTBEAT)
    processes.start("dedupe", environ=given).wait_ready()
    wait_done(kafka, 300)
    found = account(kafka.read("contacts.changes")).versions
    assert set(map(tuple, found.values())) <= {(1,), (1, 1)}
    assert len(found) == 300
