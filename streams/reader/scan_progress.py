"""How the progress of a grant moves while its contacts are listed: plain functions."""

from collections.abc import Sequence
from dataclasses import replace

from connectors.nylas.contacts import Page
from streams.runs import Progress, RunState


def first_progress(sources: Sequence[str], expected: int | None, now: float) -> Progress:
    """The progress of a grant before its first page."""
    return Progress(
        RunState.WAITING,
        source=sources[0] if sources else "",
        expected=expected,
        started_at=int(now),
        updated_at=int(now),
    )


def source_after(source: str, sources: Sequence[str]) -> str:
    """The source to list after this one; empty after the last."""
    at = sources.index(source) + 1
    return sources[at] if at < len(sources) else ""


def after_refusal(progress: Progress, sources: Sequence[str], error: str) -> Progress:
    """The progress after Nylas refused to list a source; the listing goes on with the next one."""
    following = source_after(progress.source, sources)
    refusal = f"source {progress.source} could not be read: {error}"
    return replace(
        progress,
        state=RunState.RUNNING if following else RunState.SCANNED,
        source=following or progress.source,
        incomplete=f"{progress.incomplete}; {refusal}" if progress.incomplete else refusal,
    )


def after_page(progress: Progress, sources: Sequence[str], page: Page, now: float) -> Progress:
    """The progress after a page was acknowledged: the next page, the next source, or `scanned`.

    A scanned grant was listed to its end. What follows from that is decided by its run.
    """
    source, state = progress.source, RunState.RUNNING
    if page.next_cursor is None:
        following = source_after(source, sources)
        if following:
            source = following
        else:
            state = RunState.SCANNED
    return replace(
        progress,
        state=state,
        source=source,
        cursor=page.next_cursor,
        pages=progress.pages + 1,
        contacts=progress.contacts + len(page.contacts),
        scan_start=page.served_at if progress.scan_start is None else progress.scan_start,
        updated_at=int(now),
        error="",
    )


def after_repeated_page(
    progress: Progress, sources: Sequence[str], page: Page, now: float
) -> Progress:
    """The progress after a page of another listing of the grant, of which `page` holds the news.

    The page itself was counted in the first listing.
    """
    return replace(after_page(progress, sources, page, now), pages=progress.pages)


def next_listing(progress: Progress, sources: Sequence[str]) -> Progress:
    """The progress of a grant that is listed again from its first source; what it had counts on."""
    return replace(
        progress,
        state=RunState.RUNNING,
        source=sources[0],
        cursor=None,
        incomplete="",
        listing=progress.listing + 1,
    )
