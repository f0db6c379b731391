"""How the progress of a grant moves from page to page and from source to source."""

from connectors.nylas.contacts import Page
from streams.reader.scan_progress import after_page, first_progress
from streams.runs import RunState


def page(count: int, cursor: str | None, served_at: int = 1000) -> Page:
    return Page([{"id": f"c{number}"} for number in range(count)], cursor, served_at, "r")


def test_the_cursor_moves_with_each_page_and_sources_follow_each_other() -> None:
    progress = first_progress(("address_book", "inbox"), None, 5)
    progress = after_page(progress, ("address_book", "inbox"), page(200, "next", 1000), 6)
    assert (progress.state, progress.source, progress.cursor) == (
        RunState.RUNNING,
        "address_book",
        "next",
    )
    progress = after_page(progress, ("address_book", "inbox"), page(7, None, 1001), 7)
    assert (progress.state, progress.source, progress.cursor) == (RunState.RUNNING, "inbox", None)
    progress = after_page(progress, ("address_book", "inbox"), page(0, None, 1002), 8)
    assert (progress.state, progress.pages, progress.contacts) == (RunState.SCANNED, 3, 207)
    assert progress.scan_start == 1000, "the first page dates the scan"
