"""The console's HTTP server: who is let in, what every answer carries, and where pages are."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources import files

import structlog
from aiohttp import web

from streams.console.access import (
    Gatekeeper,
    arrived_encrypted,
    comes_from_our_page,
    host_is_known,
    person_of,
    same,
)
from streams.console.reading import NotReadable
from streams.console.shell import PERSON, THEME_COOKIE, THEMES, Page, Shell
from streams.metrics import ConsoleMetrics
from streams.runtime.connections import Connection, Listener, authenticated, request_complete
from streams.runtime.logs import where

log = structlog.get_logger()

SESSION_COOKIE = "contactstream-session"

# A browser session of a day; then the token is shown again.
SESSION_SECONDS = 86_400

# Forms of the console have a few fields.
MAX_BODY_BYTES = 64 * 1024

# Requests at work at once. Some wait for Kafka; a page is polled by each open tab.
MAX_REQUESTS = 32

# Open connections. A browser opens at most six to one host, so these are the browsers of more than
# forty people, or one proxy in front of all. Each may hold a form of MAX_BODY_BYTES. At this number
# each new connection evicts another one, and those of strangers go first.
MAX_CONNECTIONS = 256

# Wrong tokens in a minute, by anybody. Beyond that nobody can try, so that none is guessed.
MAX_WRONG_TOKENS = 10
WRONG_TOKEN_SECONDS = 60.0

# For requests at work when the process stops.
DRAIN_SECONDS = 5.0

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The whole address would go to Salesforce with a click on a record; filters may name people.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "contactstream",
}

# Needed by the page that asks for the token.
OPEN_PATHS = ("/login", "/static/")

CONTENT_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """Serves the pages."""

    def __init__(
        self, keeper: Gatekeeper, shell: Shell, pages: Sequence[Page], metrics: ConsoleMetrics
    ) -> None:
        self._keeper, self._shell = keeper, shell
        self._wrong_tokens: deque[float] = deque(maxlen=MAX_WRONG_TOKENS)
        self._at_work = 0
        self._static = static_files()
        self._runner = web.AppRunner(self.application(pages), shutdown_timeout=DRAIN_SECONDS)
        self._closed = metrics.connections_closed
        self._listener = Listener(MAX_CONNECTIONS, malformed, self._count_closed)
        metrics.connections.set_function(lambda: len(self._listener))

    def application(self, pages: Sequence[Page]) -> web.Application:
        """The application: also for tests, which serve it by themselves."""
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        application.add_routes(
            [
                web.get("/login", self._login_page),
                web.post("/login", self._login),
                web.post("/logout", self._logout),
                web.post("/theme", self._theme),
                web.get("/static/{name}", self._static_file),
                *(route for page in pages for route in page.routes()),
            ]
        )
        return application

    async def listen(self, address: str) -> None:
        """Binds the address (host:port) and serves. Raises OSError when the port is taken."""
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        await self._listener.listen(address, server)

    def cut_slow(self) -> None:
        """Aborts connections on which a request has been incomplete for too long."""
        self._listener.cut_slow()

    def _count_closed(self, reason: str, connections: int) -> None:
        self._closed.labels(reason).inc(connections)

    async def stop(self) -> None:
        """Closes the port, and ends requests that are not answered within DRAIN_SECONDS."""
        await self._listener.close(DRAIN_SECONDS)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers what is refused; adds the headers that every answer has.

        A connection counts as idle while an answer is streamed on it, which ends an export when
        nearly MAX_CONNECTIONS of people are open.
        """
        connection = request.protocol if isinstance(request.protocol, Connection) else None
        if connection is None:
            return await self._with_headers(request, handler)
        connection.answering = True
        try:
            return await self._with_headers(request, handler)
        finally:
            connection.answering = False

    async def _with_headers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._at_work >= MAX_REQUESTS:
            answer: web.StreamResponse = web.Response(
                status=503,
                text="too many requests at once; look again",
                headers={"Retry-After": "2"},
            )
        else:
            self._at_work += 1
            try:
                answer = await self._checked(request, handler)
            finally:
                self._at_work -= 1
        for name, value in SECURITY_HEADERS.items():
            if name != "Cache-Control" or name not in answer.headers:
                answer.headers[name] = value
        return answer

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        keeper = self._keeper
        if not host_is_known(request.host, keeper.hosts):
            return web.Response(
                status=421,
                text=f"{request.host} is not a name of this console; CONSOLE_HOSTS lists further "
                "ones",
            )
        changes = request.method not in ("GET", "HEAD")
        if changes and not comes_from_our_page(request.headers, keeper.hosts):
            return web.Response(
                status=403, text="refused: the request was not sent by a page of this console"
            )
        session = request.cookies.get(SESSION_COOKIE, "")
        person = person_of(keeper, request.remote or "", request.headers, session)
        request[PERSON] = person
        if not person.may_read and not request.path.startswith(OPEN_PATHS):
            if not keeper.token:
                return web.Response(
                    status=403, text="refused: the proxy in front did not say who you are"
                )
            if changes:
                return web.Response(status=403, text="log in first")
            request_complete(request)
            return see_other("/login")
        return await self._answered(request, handler)

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await request.read()  # at most MAX_BODY_BYTES, and handlers read it again from memory
            request_complete(request)
            if request[PERSON].may_read:
                authenticated(request)
            return await handler(request)
        except NotReadable as error:
            return self._shell.problem(request, "This cannot be shown now", str(error), 503)
        except web.HTTPRedirection as redirection:
            return see_other(redirection.headers["Location"])
        except web.HTTPException as error:
            title = "Not found" if error.status == 404 else "This was not done"
            text = error.text or error.reason
            if error.status == 404 and text.startswith("404"):
                text = f"There is no page {request.path}."
            return self._shell.problem(request, title, text, error.status)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("a page failed", path=request.path, error=where(error))
            text = f"The page failed: {type(error).__name__}. The log of the console says where."
            return self._shell.problem(request, "An error of the console", text, 500)

    async def _login_page(self, request: web.Request) -> web.Response:
        return self._shell.page(request, "login.html", "Log in", wrong=False)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        keeper, now = self._keeper, time.monotonic()
        full = len(self._wrong_tokens) == MAX_WRONG_TOKENS
        if full and now - self._wrong_tokens[0] < WRONG_TOKEN_SECONDS:
            raise web.HTTPTooManyRequests(text="too many wrong tokens; try again in a minute")
        given = str((await request.post()).get("token", ""))
        if not keeper.token or not same(given, keeper.token):
            self._wrong_tokens.append(now)
            return self._shell.page(request, "login.html", "Log in", status=403, wrong=True)
        answer = see_other("/")
        answer.set_cookie(
            SESSION_COOKIE,
            keeper.session,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=arrived_encrypted(keeper, request.remote or "", request.headers),
        )
        return answer

    async def _logout(self, _request: web.Request) -> web.StreamResponse:
        answer = see_other("/login")
        answer.del_cookie(SESSION_COOKIE)
        return answer

    async def _theme(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        theme, back = str(form.get("theme", "")), str(form.get("back", "/"))
        # Only a path of this console: `//other.example` would be another site.
        answer = see_other(back if back.startswith("/") and back[1:2] not in "/\\" else "/")
        if theme in THEMES:
            answer.set_cookie(
                THEME_COOKIE, theme, max_age=365 * 86_400, httponly=True, samesite="Strict"
            )
        return answer

    async def _static_file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        content = self._static.get(name)
        if content is None:
            raise web.HTTPNotFound
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        # Kept by the browser, and asked for again each time: a new version shows at once.
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        kind = CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return web.Response(body=content, content_type=kind, headers=headers)


def malformed() -> web.Response:
    """The answer to what is no HTTP. aiohttp's own quotes it."""
    answer = web.Response(status=400, text="no HTTP request", headers=SECURITY_HEADERS)
    answer.force_close()
    return answer


def see_other(path: str) -> web.Response:
    """Leads a browser to another page of the console, by GET."""
    return web.Response(status=303, headers={"Location": path})


def static_files() -> Mapping[str, bytes]:
    """The files of the console's own and of others, by name: a few hundred kB."""
    folder = files("streams.console") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
