"""Dedupe's producer: a batch's records are acknowledged, or the process ends."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.dedupe.fence import ELECTION_SECONDS
from streams.dedupe.planner import Output
from streams.kafka.access import is_denied, named_denial
from streams.kafka.clients import BATCH_BYTES
from streams.kafka.publisher import REMEDY
from streams.kafka.records import Headers
from streams.kafka.sizes import SplitProducers, TopicRefusesRecord, record_bytes
from streams.runtime.exit_codes import Die, ExitCode, die
from streams.runtime.watchdog import elapsed

log = structlog.get_logger()

# The producer's queue: many times a batch of common events. librdkafka's default of 1 GB would be
# too much memory.
QUEUED_KB = 32 * 1024

# What is given to the producer before its reports are waited for: one batch of records, with room
# for what is not counted. librdkafka's idempotent producer sends nothing more to a partition while
# five of its records are in flight (`RD_KAFKA_IDEMP_MAX_INFLIGHT - rktp_msgs_inflight` in
# rd_kafka_toppar_producer_serve of rdkafka_broker.c, 2.16), and for what is due meanwhile its
# thread asks again and again, which costs a whole processor.
PART_BYTES = BATCH_BYTES * 9 // 10

# Of a record beside its key and its value: framing, and the headers of a change.
RECORD_EXTRA_BYTES = 250

Given = tuple[str, bytes | None, bytes | None, int, Headers | None]
"""Topic, value, key, partition and headers: what the producer is given of a record."""

# For librdkafka: the partitioner chooses by the key.
ANY_PARTITION = -1


def parts(records: Sequence[Given]) -> Iterator[Sequence[Given]]:
    """Records in parts of up to PART_BYTES, in their order; a larger record is a part by itself.

    Of no records an empty part.
    """
    begin, size = 0, 0
    for at, (_, value, _, _, _) in enumerate(records):
        added = len(value or b"") + RECORD_EXTRA_BYTES
        if size + added > PART_BYTES and at > begin:
            yield records[begin:at]
            begin, size = at, 0
        size += added
    yield records[begin:]


class AcknowledgedProducer:
    """Publishes records and returns once they are acknowledged, or ends the process.

    Records that Kafka did not acknowledge within the delivery time-out of `config` are published
    again for up to ELECTION_SECONDS, because their partition may have no leader for as long.
    `seconds` bound the wait for the reports of one attempt; they are longer than the delivery
    time-out. `check` is called before each record, also before it is published again: it returns
    only while the partitions are those of this worker.
    """

    def __init__(
        self,
        config: dict[str, Any],
        seconds: float,
        check: Callable[[], None],
        die: Die = die,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        # Only failures are reported: a callback for each record would cost as much as publishing.
        reporting = {"delivery.report.only.error": True, "on_delivery": self._failed}
        self._client_config = {"queue.buffering.max.kbytes": QUEUED_KB} | config
        self._usual = Producer(self._client_config | reporting)
        self._split = SplitProducers(self._client_config | reporting)
        self._too_large: dict[bytes | None, Message] = {}  # by key, refused in their batches
        self._seconds = seconds
        self._check = check
        self._die = die
        self._clock = clock
        self._timed_out: KafkaError | None = None
        self._error: KafkaError | None = None

    def publish(self, outputs: Sequence[Output]) -> None:
        """Publishes records of several topics. Blocks until they are acknowledged."""
        self._deliver(
            [(topic, value, key, ANY_PARTITION, headers) for topic, value, key, headers in outputs]
        )

    def publish_to(self, topic: str, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """Publishes keys and values to one partition. Blocks until they are acknowledged."""
        self._deliver([(topic, value, key, partition, None) for key, value in entries.items()])

    def _deliver(self, records: Sequence[Given]) -> None:
        """Sends records, and those of a batch that is refused as too large again in smaller ones.

        Of their keys all records are sent again, so that the newest comes last as before. After a
        time-out everything is sent again, which repeats what was acknowledged, as a crash would.
        """
        until = self._clock() + ELECTION_SECONDS
        while True:
            producer = self._split.suited(self._usual, (record[0] for record in records))
            for part in parts(records):
                self._hand_over(producer, part)
                self._flush(producer)
                if self._timed_out is not None:
                    break
            refused, self._too_large = self._too_large, {}
            timed_out, self._timed_out = self._timed_out, None
            if timed_out is not None:
                if self._clock() > until:
                    self._die(ExitCode.NOT_ACKNOWLEDGED, timed_out.str())
                log.warning("Kafka did not acknowledge a batch in time; it is published again")
                continue
            if not refused:
                return
            self._split_from_now_on(producer, refused.values())
            records = [each for each in records if each[2] in refused]

    def _split_from_now_on(self, producer: Producer, refused: Iterable[Message]) -> None:
        """Makes smaller batches for the topics. Ends the process for a record that is too large."""
        for topic, message in {message.topic() or "": message for message in refused}.items():
            try:
                self._split.learn(producer, topic, record_bytes(message), self._client_config)
            except TopicRefusesRecord as error:
                self._die(ExitCode.KAFKA_REFUSED, str(error))
            log.warning("a batch was refused as too large; it is split", topic=topic, remedy=REMEDY)

    def _hand_over(self, producer: Producer, records: Iterable[Given]) -> None:
        """Gives records to the producer, each right after a check."""
        check, produce = self._check, producer.produce
        for topic, value, key, partition, headers in records:
            check()
            try:
                try:
                    produce(topic, value, key, partition, headers=headers)
                except BufferError:  # the queue is full: the rest follows its acknowledgement
                    self._flush(producer)
                    check()
                    produce(topic, value, key, partition, headers=headers)
            except KafkaException as error:
                self._die(ExitCode.KAFKA_REFUSED, f"{topic}: {error.args[0].str()}")

    def _flush(self, producer: Producer) -> None:
        try:
            left = producer.flush(self._seconds)
        except KafkaException as error:  # a fatal error, which is not given to `error_cb`
            self._die(ExitCode.KAFKA_REFUSED, error.args[0].str())
        if self._error is not None:
            fatal = self._error.fatal() or self._error.code() == KafkaError._FATAL
            refused = fatal or is_denied(self._error)
            code = ExitCode.KAFKA_REFUSED if refused else ExitCode.NOT_ACKNOWLEDGED
            self._die(code, self._error.str())
        if left:
            self._die(ExitCode.NOT_ACKNOWLEDGED, f"no acknowledgement within {self._seconds:.1f} s")

    def _failed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large[message.key()] = message
        elif error is not None and error.code() == KafkaError._MSG_TIMED_OUT:
            self._timed_out = error
        elif error is not None and is_denied(error):
            self._error = self._error or named_denial(error, message.topic() or "")
        else:
            self._error = self._error or error
