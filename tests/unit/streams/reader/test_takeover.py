"""How long the search for heirs rests."""

import threading
import time
from collections.abc import Iterator

from streams.kafka.records import KafkaRecord
from streams.reader.takeover import MAX_REST, REST, rest_after, timed


def test_the_rest_is_measured_by_the_search_and_has_an_end() -> None:
    assert rest_after(0.5) == REST * 0.5
    assert rest_after(600.0) == MAX_REST


def test_what_other_threads_do_meanwhile_is_no_work_of_the_search() -> None:
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            pass

    def search(_records: Iterator[KafkaRecord]) -> str:
        began = time.process_time()
        while time.process_time() - began < 1.0:  # of the other thread's
            over.wait(0.02)
        return "found"

    other = threading.Thread(target=burn)
    other.start()
    try:
        found, took = timed(search)(iter(()))
    finally:
        over.set()
        other.join()
    assert found == "found"
    assert took < 0.5
