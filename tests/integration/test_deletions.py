"""A deletion in Salesforce that an operator lifts on a real Kafka, as the running sink reads it."""

import pytest
from click.testing import CliRunner

from connectors.salesforce.deleted_records import DeletedRecord, DeletedRecords
from connectors.salesforce.simulator.schema import make_id
from streams.cli import main
from streams.settings import KafkaSettings, load
from streams.sink.deleted_topic import apply_entry, entries, entry_record
from streams.sink.deletion_keeper import DeletedRecordsLog
from streams.topics import topics
from tests.support.kafka import Kafka

pytestmark = pytest.mark.kafka


def test_a_lift_is_read_behind_what_the_sink_read_before(kafka: Kafka) -> None:
    settings = load(KafkaSettings, kafka.environ)
    names = topics(settings)
    kafka.create("sink.deleted-records", config=names.deleted_records.config)
    sink = DeletedRecords()
    deleted = DeletedRecord(
        "g/2", make_id("00Q", 1), None, 1_750_000_000, (sink.hash_of("junk@x.example"),)
    )
    written = [entry_record(names, entry) for entry in (sink.salt, deleted)]
    kafka.produce("sink.deleted-records", [(record.key, record.value) for record in written])
    log = DeletedRecordsLog(settings, names)
    for entry in entries(log.read_all()):
        apply_entry(entry, sink)
    assert sink.found("h/2", ["junk@x.example"]) == [deleted]
    lift = ["deletions", "lift", "--email", "junk@x.example"]
    for options in ([], ["--execute"]):
        ended = CliRunner().invoke(main, [*lift, *options], env=kafka.environ)
        assert ended.exit_code == 0, ended.output
        assert "of contact g/2: deleted" in ended.output
    new = list(entries(log.read_new()))
    assert len(new) == 2, "of the address and of the contact"
    for entry in new:
        apply_entry(entry, sink)
    assert sink.found("g/2", ["junk@x.example"]) == []
    ended = CliRunner().invoke(main, ["deletions"], env=kafka.environ)
    assert "0 deleted, 0 merged" in ended.stderr
