"""Dedupe moves to another generation and back, as its runbook says, and forwards nothing twice."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from streams.cli import main
from streams.commands.dedupe_state import command, copying
from streams.commands.doctor.kafka import examine_kafka
from streams.dedupe.generation_groups import why_not_live
from streams.dedupe.versions import DedupeState, encode
from streams.runtime.exit_codes import ExitCode
from streams.settings import KafkaSettings, load
from streams.topics import of_generation
from tests.support.dedupe_load import (
    Load,
    account,
    changes_end,
    create_topics,
    environ,
    event,
    wait_changes,
)
from tests.support.kafka import REQUEST_SECONDS, Kafka
from tests.support.processes import Process, Processes
from tests.support.runbook import Cluster, Operator, steps
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.system]

RUNBOOK = "deploy/runbooks/dedupe-generation.md"
DEDUPE, READER = "contactstream-dedupe", "contactstream-reader"
PARTITIONS = 4
OLD, NEW = "contactstream-dedupe-seen-changelog", "contactstream-dedupe-2-seen-changelog"

# A worker that is starved for half a session ends itself; a worker that runs, one that waits, a
# command and the broker share two cores.
SESSION_SECONDS = 40.0

CONTACTS, RATE = 200, 250.0

# Of every third contact only so many versions are sent; then those again, which only somebody with
# the table knows for old.
QUIET_AFTER = 2


def disordered(contacts: int, round_number: int) -> Iterator[tuple[bytes, bytes]]:
    """A round of webhooks: new versions, repeats, and old versions of contacts that are quiet."""
    for contact in range(contacts):
        quiet = contact % 3 == 0 and round_number >= QUIET_AFTER
        if contact % 5 == 0 and round_number and not quiet:
            yield event(contact, round_number - 1)  # only somebody who has it knows it for a retry
        yield event(contact, round_number % QUIET_AFTER if quiet else round_number)


def expected(contacts: int, rounds: int) -> dict[bytes, list[int]]:
    """What contacts.changes has to hold of each contact, in this order."""
    return {
        event(contact, 0)[0]: list(range(rounds if contact % 3 else min(rounds, QUIET_AFTER)))
        for contact in range(contacts)
    }


@pytest.mark.timeout(600)
def test_the_runbook_moves_dedupe_there_and_back_under_load(
    kafka: Kafka, processes: Processes, tmp_path: Path
) -> None:
    create_topics(kafka, PARTITIONS)
    old = environ(kafka, PARTITIONS, SESSION_SECONDS)
    new = old | {"KAFKA_DEDUPE_GENERATION": "2"}
    cluster = Cluster(processes, {DEDUPE: old, f"{DEDUPE}-2": new})
    operator = Operator(cluster, old, kafka.prefix, tmp_path)

    with Load(kafka, CONTACTS, RATE, disordered) as load:
        cluster.kubectl("scale", f"statefulset/{DEDUPE}", "--replicas=1")
        wait_changes(kafka, QUIET_AFTER * CONTACTS)
        for step in operator.follow(steps(RUNBOOK, "There")):
            if step.command.startswith(f"kubectl scale statefulset/{DEDUPE}-2 "):
                waiting = cluster.pods[f"{DEDUPE}-2"][0]
                wait_until_it_says(waiting, "generation 2 has no offsets yet")
        wait_changes(kafka, changes_end(kafka) + CONTACTS)
        assert cluster.set_environ == {READER: {"KAFKA_DEDUPE_GENERATION": "2"}}

        for step in operator.follow(steps(RUNBOOK, "The way back")):
            if step.command.startswith(f"kubectl scale statefulset/{DEDUPE} "):
                reason = "generation 1 gave its work to another one"
                wait_until_it_says(cluster.pods[DEDUPE][0], reason)
        wait_changes(kafka, changes_end(kafka) + CONTACTS)
        assert cluster.set_environ == {READER: {"KAFKA_DEDUPE_GENERATION": "1"}}
    assert load.versions > QUIET_AFTER
    wait_until(
        lambda: (
            sum(kafka.committed(kafka.name("contactstream-dedupe"), "contacts.events").values())
            == load.sent
        ),
        "every event is taken",
        120.0,
    )
    found = account(kafka.read("contacts.changes")).versions
    wanted = expected(CONTACTS, load.versions)
    assert {key: found[key] for key in wanted if found[key] != wanted[key]} == {}
    assert found.keys() == wanted.keys()
    assert [pod.exit_code for pod in processes.started if pod.exit_code] == []


def wait_until_it_says(worker: Process, reason: str) -> None:
    wait_until(lambda: reason in worker.ask("/readyz")[1], f"a worker waits: {reason}", 60.0)


def table(kafka: Kafka, topic: str) -> list[dict[bytes, bytes | None]]:
    """The entries of a changelog, by partition."""
    found: list[dict[bytes, bytes | None]] = [{} for _ in range(PARTITIONS)]
    for each in kafka.read(topic):
        found[each.partition][each.key or b""] = each.value
    return found


@pytest.fixture
def old_generation(kafka: Kafka) -> KafkaSettings:
    """Generation 1 has a table of 3,000 contacts, and has taken some events; 2 has nothing."""
    create_topics(kafka, PARTITIONS)
    kafka.create(NEW, PARTITIONS, {"cleanup.policy": "compact"})
    for version in (1, 2):
        entries = [(b"g/c%d" % each, entry(version + each)) for each in range(3_000)]
        kafka.produce(OLD, entries)
    kafka.produce("contacts.events", [event(each, 1) for each in range(100)])
    commit(kafka, "contactstream-dedupe")
    return load(KafkaSettings, environ(kafka, PARTITIONS))


def entry(version: int) -> bytes:
    return encode(DedupeState(version, version, ids=(b"%08d" % version,)))


def commit(kafka: Kafka, group: str) -> None:
    """Commits the end of each partition of contacts.events."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": kafka.name(group)})
    events = kafka.name("contacts.events")
    ends = [
        TopicPartition(
            events, each, consumer.get_watermark_offsets(TopicPartition(events, each))[1]
        )
        for each in range(PARTITIONS)
    ]
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


def run(settings: KafkaSettings, *words: str) -> tuple[int, str]:
    given = {f"KAFKA_{name.upper()}": str(getattr(settings, name)) for name in USED}
    result = CliRunner().invoke(main, ["dedupe-state", *words], env=given)
    return result.exit_code, result.output


USED = (
    "bootstrap_servers",
    "topic_prefix",
    "events_partitions",
    "replication_factor",
    "dedupe_generation",
)


def works(settings: KafkaSettings) -> list[int]:
    """The generations whose workers would work."""
    return [each for each in (1, 2) if why_not_live(of_generation(settings, each)) is None]


def test_an_interrupted_switch_leaves_no_generation_at_work_and_is_repeated(
    kafka: Kafka, old_generation: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert works(old_generation) == [1]
    code, said = run(old_generation, "switch", "--to", "2")
    assert (code, works(old_generation)) == (0, [1])
    assert "at most 6,000 records" in said
    assert not any(table(kafka, NEW)), "nothing is copied without --execute"

    publish, batches = copying.publish_entries, []

    def interrupted(*arguments: object) -> None:
        publish(*arguments)  # type: ignore[arg-type]
        batches.append(arguments)
        if len(batches) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(copying, "publish_entries", interrupted)
        patched.setattr(copying, "RECORDS_A_BATCH", 500)
        assert run(old_generation, "switch", "--to", "2", "--execute")[0] == 1
    assert works(old_generation) == []
    code, said = run(old_generation, "prepare", "--to", "2", "--execute")
    assert code == 1
    assert "it copies the rest itself" in said

    code, said = run(old_generation, "switch", "--to", "2", "--execute")
    assert code == 0, said
    assert "copied 5,500 records" in said, "it goes on behind the last batch that it has noted"
    assert works(old_generation) == [2]
    assert table(kafka, NEW) == table(kafka, OLD)
    old, new = (
        kafka.committed(kafka.name(group), "contacts.events")
        for group in ("contactstream-dedupe", "contactstream-dedupe-2")
    )
    assert old == new
    assert sum(new.values()) == 100
    for number, status in ((1, "fail"), (2, "ok")):
        found = examine_kafka(of_generation(old_generation, number))
        assert [each.status for each in found if each.check == "generation of dedupe"] == [status]
    assert not kafka.read("contacts.changes")


def test_an_interrupted_switch_is_taken_back(
    kafka: Kafka, old_generation: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(copying, "publish_entries", interrupted)
        assert run(old_generation, "switch", "--to", "2", "--execute")[0] == 1
    assert works(old_generation) == []
    code, said = run(old_generation, "switch", "--to", "1", "--execute")
    assert code == 0, said
    assert "generation 1 is the live one again" in said
    assert works(old_generation) == [1]


def test_a_switch_copies_only_what_came_after_the_preparation(
    kafka: Kafka, old_generation: KafkaSettings
) -> None:
    assert "copied 6,000 records" in run(old_generation, "prepare", "--to", "2", "--execute")[1]
    kafka.produce(OLD, [(b"g/c7", entry(9_999)), (b"g/c8", None)])
    code, said = run(old_generation, "switch", "--to", "2", "--execute")
    assert code == 0, said
    assert "copied 2 records" in said
    assert table(kafka, NEW) == table(kafka, OLD)


def test_workers_keep_their_group_from_being_switched(
    kafka: Kafka, old_generation: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MEMBERS_LEAVE_SECONDS", 2.0)
    worker = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": kafka.name("contactstream-dedupe")}
    )
    worker.subscribe([kafka.name("contacts.events")])
    wait_until(lambda: worker.poll(0.1) is not None or worker.assignment(), "it joined", 60.0)
    code, said = run(old_generation, "switch", "--to", "2")
    assert code == 0
    assert "with --execute it would be refused: 1 workers of generation 1" in said
    code, said = run(old_generation, "switch", "--to", "2", "--execute")
    assert code == 1
    assert "Stop them first" in said
    assert works(old_generation) == [1]
    worker.close()
    code, said = run(old_generation, "switch", "--to", "2", "--execute")
    assert code == 0, said


def test_a_worker_that_passed_its_checks_before_the_switch_ends_when_it_joins(
    kafka: Kafka, processes: Processes, old_generation: KafkaSettings
) -> None:
    code, said = run(old_generation, "switch", "--to", "2", "--execute")
    assert code == 0, said
    unchecked = (
        "from streams.dedupe import start_checks; start_checks.why_not_live = lambda _: None; "
        "from streams.cli import main; main()"
    )
    worker = processes.start(
        "dedupe", command=(sys.executable, "-c", unchecked), environ=environ(kafka, PARTITIONS)
    )
    assert worker.popen.wait(60) == ExitCode.GENERATION_REPLACED
    assert "KAFKA_DEDUPE_GENERATION=2" in worker.log


def test_a_lost_table_is_made_of_contacts_changes(kafka: Kafka, processes: Processes) -> None:
    create_topics(kafka, PARTITIONS)
    kafka.create(NEW, PARTITIONS, {"cleanup.policy": "compact"})
    contacts = 200
    kafka.produce("contacts.events", [event(each, v) for v in (3, 4) for each in range(contacts)])
    old = environ(kafka, PARTITIONS)
    first = processes.start("dedupe", environ=old)
    wait_changes(kafka, 2 * contacts)
    assert first.stop() == 0
    admin = kafka.admin()  # kept: a client that is garbage-collected drops its requests
    admin.delete_topics([kafka.name(OLD)])[kafka.name(OLD)].result(REQUEST_SECONDS)

    settings = load(KafkaSettings, old)
    code, said = run(settings, "switch", "--to", "2", "--execute")
    assert code == 1
    assert "--from changes" in said
    code, said = run(settings, "switch", "--to", "2", "--from", "changes")
    assert code == 0
    assert "contactstream reconcile --all" in said
    code, said = run(settings, "switch", "--to", "2", "--from", "changes", "--execute")
    assert code == 0, said
    kafka.produce(
        "contacts.events", [event(each, v) for v in (4, 2, 3, 5) for each in range(contacts)]
    )
    processes.start("dedupe", environ=old | {"KAFKA_DEDUPE_GENERATION": "2"})
    wait_changes(kafka, 3 * contacts)
    wait_until(
        lambda: (
            sum(kafka.committed(kafka.name("contactstream-dedupe-2"), "contacts.events").values())
            == 6 * contacts
        ),
        "every event is taken",
        60.0,
    )
    found = account(kafka.read("contacts.changes")).versions
    assert found == {event(each, 0)[0]: [3, 4, 5] for each in range(contacts)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prepare", "--to", "1"), "generation 1 is the live one"),
        (("switch", "--to", "1"), "is the live one already"),
        (("prepare", "--to", "3"), "Set KAFKA_DEDUPE_GENERATION=3"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(
    old_generation: KafkaSettings, words: tuple[str, ...], said: str
) -> None:
    code, printed = run(old_generation, *words)
    assert code == 1
    assert said in printed


def test_settings_of_another_deployment_are_refused(old_generation: KafkaSettings) -> None:
    other = old_generation.model_copy(update={"events_partitions": PARTITIONS - 1})
    code, printed = run(other, "switch", "--to", "2", "--from", "changes", "--execute")
    assert code == 1
    assert "contacts.events has 4 partitions instead of 3" in printed
    assert works(old_generation) == [1]
