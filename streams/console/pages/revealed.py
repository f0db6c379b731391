"""The address of a page that was revealed: to be asked again by POST only."""

from collections.abc import Awaitable, Callable

from aiohttp import web


def back_to(path: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Leads who opens the address of a revealed page anew to the masked one."""

    async def lead(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPSeeOther(path)

    return lead
