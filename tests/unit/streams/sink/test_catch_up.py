"""Which changes of a predecessor's span are not written, because a newer one of the contact is."""

from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.events import Kind, change_headers, restore_header
from streams.kafka.records import KafkaRecord
from streams.sink.catch_up import CatchUp, written_note, written_to


def record(offset: int, key: str, version: int, value: bytes | None = b"{}") -> KafkaRecord:
    headers = change_headers(Kind.UPDATED, version, "", "", b"webhook", b"0")
    return KafkaRecord("contacts.changes", f"g/{key}".encode(), value, headers, 0, offset)


def written(catch_up: CatchUp, records: list[KafkaRecord]) -> list[int]:
    """The offsets of a second reading that are not superseded."""
    return [
        one.offset
        for one in records
        if not catch_up.is_superseded((one.key or b"").decode(), one.offset)
    ]


@given(arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=40))
def test_only_the_newest_change_of_each_contact_is_written(arrivals: list[tuple[str, int]]) -> None:
    catch_up = CatchUp(len(arrivals))
    records = [record(offset, *one) for offset, one in enumerate(arrivals)]
    for one in records:
        catch_up.survey(one)
    newest = {
        key: max(
            (version, offset) for offset, (each, version) in enumerate(arrivals) if each == key
        )[1]
        for key, _ in arrivals
    }
    assert written(catch_up, records) == sorted(newest.values())


@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=30),
    data=st.data(),
)
def test_what_compaction_leaves_of_a_contact_is_written(
    arrivals: list[tuple[str, int]], data: st.DataObject
) -> None:
    catch_up = CatchUp(len(arrivals))
    records = [record(offset, *one) for offset, one in enumerate(arrivals)]
    for one in records:
        catch_up.survey(one)
    # Compaction keeps the last record of each contact, and may have reached only a part of the log.
    reached = data.draw(st.integers(0, len(arrivals)))
    last = {one.key: one.offset for one in records[:reached]}
    left = [one for one in records if one.offset >= reached or last[one.key] == one.offset]
    found = written(catch_up, left)
    assert {records[offset].key for offset in found} == {one.key for one in records}


def test_the_newest_change_restores_what_a_superseded_one_was_to_restore() -> None:
    catch_up = CatchUp(9)
    for offset, fields in enumerate((["Title"], [], ["Phone"], [])):
        one = record(offset, "a", offset)
        catch_up.survey(one._replace(headers=[*one.headers, *restore_header(fields)]))
    catch_up.survey(record(4, "b", 1))
    assert catch_up.restored == {"g/a": {"Title", "Phone"}}


def test_neither_an_unreadable_record_nor_a_tombstone_supersedes_a_change() -> None:
    catch_up = CatchUp(3)
    records = [record(0, "a", 1), record(1, "a", 9, b"{"), record(2, "a", 9, None)]
    for one in records:
        catch_up.survey(one)
    assert written(catch_up, records[:1]) == [0]


def test_reading_twice_ends_after_so_many_records_and_nothing_behind_them_is_superseded() -> None:
    catch_up = CatchUp(1000, most_records=2)
    records = [record(offset, "a", 9 - offset) for offset in (3, 8, 40)]
    for one in records:
        catch_up.survey(one)
    assert catch_up.surveyed
    assert catch_up.end == 9
    assert written(catch_up, records) == [3, 40]


def test_the_commit_says_up_to_where_its_writer_may_have_written() -> None:
    def committed(note: str) -> TopicPartition:
        return TopicPartition("contacts.changes", 0, 10, note)

    assert written_to(committed(f"topic-id=x {written_note(70)} calls-ended"), 100) == 70
    assert written_to(committed(written_note(170)), 100) == 100, "the log lost its end"
    for unknown in ("", "topic-id=x", "written-to=", "written-to=-3", "written-to=x"):
        assert written_to(committed(unknown), 100) == 100
