"""The HTTP server of the simulator: login, data resources, faults, latency, control plane."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from .faults import ROW_EFFECTS, Fault, parse_fault, parse_random
from .login import LoginRefused, login
from .rest import (
    NEWEST_VERSION,
    OLDEST_VERSION,
    Answer,
    Held,
    Request,
    answer,
    count_as,
    held_by,
    parse_url,
)
from .settings import BadValueError
from .soql import stamp
from .store import CallRefused, RowError, Scope
from .world import INTEGRATION_USER, Traffic, World

MAX_URI_BYTES: Final = 16_384
_MAX_LINE: Final = (
    1 << 20
)  # a longer request line ends in aiohttp's own 400 instead of the 414 that Salesforce gives
_MAX_BODY: Final = 50 << 20
_HANG_SECONDS: Final = 600.0  # REST's own time-out; a hanging fault without `seconds` ends then
_STOP_SECONDS: Final = 2.0  # what hangs on purpose is not waited for
_LOOK_SECONDS: Final = 0.02
_GZIP_FROM: Final = 256
_WORLD: Final = web.AppKey("world", World)


class _Cut(Exception):
    """The connection is to be reset without an answer."""


def app(world: World) -> web.Application:
    """The simulator over this world, as an aiohttp application: /services and /_sim."""
    application = web.Application(
        client_max_size=_MAX_BODY,
        middlewares=[_answer_errors],
        handler_args={"max_line_size": _MAX_LINE, "max_field_size": _MAX_LINE},
    )
    application[_WORLD] = world
    router = application.router
    router.add_post("/services/oauth2/token", _token)
    router.add_get("/services/oauth2/userinfo", _user_info)
    router.add_get("/services/data", _versions)
    router.add_get("/services/data/", _versions)
    router.add_route("*", "/services/data/{rest:.+}", _data)
    router.add_get("/_sim/state", _state)
    router.add_get("/_sim/writes", _writes)
    router.add_get("/_sim/refusals", _refusals)
    router.add_put("/_sim/world", _put_world)
    router.add_post("/_sim/settings", _post_settings)
    router.add_get("/_sim/faults", _get_faults)
    router.add_post("/_sim/faults", _post_faults)
    router.add_put("/_sim/faults/random", _put_random)
    router.add_delete("/_sim/faults", _delete_faults)
    router.add_post("/_sim/clock", _post_clock)
    router.add_post("/_sim/tokens/expire", _expire_tokens)
    router.add_post("/_sim/convert", _convert)
    router.add_post("/_sim/merge", _merge)
    router.add_post("/_sim/undelete", _undelete)
    router.add_post("/_sim/recycle-bin/empty", _empty_recycle_bin)
    router.add_get("/_sim/records/{sobject}", _get_records)
    router.add_post("/_sim/records/{sobject}", _post_record)
    router.add_patch("/_sim/records/{sobject}/{id}", _patch_record)
    router.add_delete("/_sim/records/{sobject}/{id}", _delete_record)
    return application


def serve(host: str, port: int, world: Path | Mapping[str, Any] | None = None) -> None:
    """Run until SIGTERM or SIGINT; port 0 takes a free one.

    `world` is the initial state, or the file that holds it. Raises BadValueError for a world that
    cannot be read.
    """
    try:
        document = orjson.loads(world.read_bytes()) if isinstance(world, Path) else world
    except orjson.JSONDecodeError as error:
        raise BadValueError(f"{world}: {error}") from None
    asyncio.run(_serve(World(document), host, port))


async def _serve(world: World, host: str, port: int) -> None:
    runner = web.AppRunner(app(world), access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        print(f"salesforce simulator listening on http://{host}:{bound}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _json(
    request: web.Request, body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A JSON answer, gzipped where the client takes it."""
    raw = b"" if body is None else orjson.dumps(body)
    given = dict(headers or {})
    if body is not None:
        given["Content-Type"] = "application/json;charset=UTF-8"
    return _compressed(request, raw, status, given)


def _csv(request: web.Request, content: bytes, headers: dict[str, str]) -> web.Response:
    """A page of a bulk query's results."""
    if "text/csv" not in request.headers.get("Accept", ""):
        return _json(request, [{"message": "Not acceptable", "errorCode": "NOT_ACCEPTABLE"}], 406)
    return _compressed(request, content, 200, headers | {"Content-Type": "text/csv"})


def _compressed(
    request: web.Request, raw: bytes, status: int, headers: dict[str, str]
) -> web.Response:
    """An answer, gzipped where the client takes it."""
    if len(raw) >= _GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        raw = gzip.compress(raw, 1)
        headers = headers | {"Content-Encoding": "gzip"}
    return web.Response(body=raw, status=status, headers=headers)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the control plane was asked wrongly is a 400 that names the value."""
    try:
        return await handler(request)
    except _Cut:
        _cut(request)
        return web.Response()
    except BadValueError as error:
        return _json(request, {"error": str(error)}, 400)


def _cut(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        # Lingering for no time sends a reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _base_url(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


async def _token(request: web.Request) -> web.Response:
    world = request.app[_WORLD]
    raw = await request.read()
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    fault = next(
        (fault for fault in world.faults.take("token", raw) if fault.effect not in ROW_EFFECTS),
        None,
    )
    world.calls["token"] += 1
    await _before(request, fault)
    if fault is not None and fault.effect == "status":
        return _fault_answer(fault)
    try:
        body = login(world, form, request.headers.get("Authorization", ""), _base_url(request))
    except LoginRefused as refused:
        world.services.refuse("token", refused.error, refused.description)
        return _json(
            request, {"error": refused.error, "error_description": refused.description}, 400
        )
    return await _after(fault, _json(request, body))


async def _user_info(request: web.Request) -> web.Response:
    world = request.app[_WORLD]
    world.calls["userinfo"] += 1
    if (refused := _session(world, request)) is not None:
        return refused
    user = world.org.tables["User"].rows[INTEGRATION_USER]
    info = {
        "user_id": user["Id"],
        "organization_id": world.org_id,
        "preferred_username": user["Username"],
    }
    return _json(request, info | {"name": user["Name"], "email": user["Email"], "active": True})


async def _versions(request: web.Request) -> web.Response:
    request.app[_WORLD].calls["versions"] += 1
    versions = [
        {
            "label": f"Release {number}",
            "url": f"/services/data/v{number}.0",
            "version": f"{number}.0",
        }
        for number in range(OLDEST_VERSION, NEWEST_VERSION + 1)
    ]
    return _json(request, versions)


def _session(world: World, request: web.Request) -> web.Response | None:
    """The 401 of a request whose token is not valid (any more)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    code, message = "INVALID_SESSION_ID", "Session expired or invalid"
    if scheme not in ("", "Bearer", "OAuth"):
        code = message = "INVALID_AUTH_HEADER"
    else:
        session = world.tokens.get(token)
        settings = world.settings
        if session is not None:
            old = (
                settings.token_max_seconds is not None
                and time.monotonic() - session.issued > settings.token_max_seconds
            )
            if old or (
                settings.token_max_calls is not None and session.calls >= settings.token_max_calls
            ):
                del world.tokens[token]
            else:
                session.calls += 1
                return None
    world.services.refuse("session", code, message)
    return _json(request, [{"message": message, "errorCode": code}], 401)


async def _data(request: web.Request) -> web.Response:
    world = request.app[_WORLD]
    if len(request.raw_path) > MAX_URI_BYTES:
        world.services.refuse("uri", "414", "URI too long")
        text = "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>"
        return web.Response(status=414, text=text, content_type="text/html")
    raw = await request.read()
    world.bytes_received += len(raw)
    world.gzipped_requests += "gzip" in request.headers.get("Content-Encoding", "")
    try:
        parsed = parse_url(request.method, request.raw_path, _headers(request), None)
        if raw:
            parsed = dataclasses.replace(parsed, body=_body(request, raw), refers=b"@{" in raw)
    except CallRefused as refused:
        world.calls["unknown"] += 1
        world.services.refuse("unknown", refused.code, refused.message)
        if (unauthorised := _session(world, request)) is not None:
            return unauthorised
        return _json(request, refused.body, refused.status)
    kind = count_as(parsed)
    world.calls[kind] += 1
    taken = world.faults.take(kind, raw)
    fault = next((fault for fault in taken if fault.effect not in ROW_EFFECTS), None)
    await _before(request, fault)
    if fault is not None and fault.effect == "expire":
        _, _, token = request.headers.get("Authorization", "").partition(" ")
        world.tokens.pop(token, None)
    if (unauthorised := _session(world, request)) is not None:
        return unauthorised
    if fault is not None and fault.effect == "status":
        return _fault_answer(fault)
    if world.used_today >= world.settings.daily_limit:
        return _limited(world, request, kind, "TotalRequests Limit exceeded.")
    world.api_calls += 1
    served = await _served(world, request, parsed, kind, taken)
    if isinstance(served, web.Response):
        return served
    if fault is not None and fault.effect in ("short", "short_rows"):
        _shorten(served, fault)
    headers = served.headers | world.limit_info()
    if served.csv is not None:
        return await _after(fault, _csv(request, served.csv, headers))
    return await _after(fault, _json(request, served.body, served.status, headers))


async def _served(
    world: World, request: web.Request, parsed: Request, kind: str, taken: list[Fault]
) -> Answer | web.Response:
    """Do the work in the time that the settings give it.

    The Accounts of its rows are held from arrival to answer.
    """
    settings, traffic = world.settings, world.traffic
    held = held_by(world.services, parsed)
    before, after = _latency(world, held.rows)
    long = before + after >= settings.long_request_seconds
    if long and traffic.long_in_flight >= settings.concurrent_limit:
        return _limited(
            world, request, kind, "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
        )
    shared = frozenset(account for account in held.accounts if account in traffic.accounts)
    traffic.overlaps["accounts"] += len(shared)
    traffic.overlaps["people"] += sum(person in traffic.people for person in held.people)
    with _under_way(traffic, held, long):
        await _sleep(before)
        scope = Scope(
            INTEGRATION_USER,
            stamp(world.now()),
            parsed.version,
            shared if settings.row_locks else frozenset(),
            frozenset(held.new_keys),
            row_fault=_row_fault(world, taken, kind),
            collection_fault=lambda sobject, records: world.faults.collection_error(
                taken, sobject, records
            ),
        )
        served = answer(world.services, parsed, scope)
        world.org.commit(scope)
        await _sleep(after)
        return served


@contextmanager
def _under_way(traffic: Traffic, held: Held, long: bool) -> Iterator[None]:
    """Count a request as in flight, with the Accounts and people of its rows."""
    traffic.accounts.update(held.accounts)
    traffic.people.update(held.people)
    traffic.in_flight += 1
    traffic.long_in_flight += long
    traffic.most_in_flight = max(traffic.most_in_flight, traffic.in_flight)
    try:
        yield
    finally:
        traffic.in_flight -= 1
        traffic.long_in_flight -= long
        for counted, ended in ((traffic.accounts, held.accounts), (traffic.people, held.people)):
            for name in ended:
                counted[name] -= 1
                if not counted[name]:
                    del counted[name]


async def _sleep(seconds: float) -> None:
    """Wait.

    Without latency not even one turn of the loop, so that a request is served in one piece.
    """
    if seconds:
        await asyncio.sleep(seconds)


def _row_fault(
    world: World, taken: list[Fault], kind: str
) -> Callable[[str], RowError | None] | None:
    random = world.faults.random
    if not any(fault.effect == "rows" for fault in taken) and (
        random is None or not random.rates.get("lock")
    ):
        return None
    return lambda _sobject: world.faults.row_error(taken, kind)


def _latency(world: World, rows: int) -> tuple[float, float]:
    """Seconds before the work and after it."""
    settings = world.settings
    call, row = settings.latency_ms_call / 1000, settings.latency_ms_row * rows / 1000
    if settings.latency_jitter:
        # Drawn from the seed and the number of the call, so that the same run meets the same
        # latencies.
        factor = 1 + settings.latency_jitter * Random(
            settings.seed * 1_000_003 + world.api_calls
        ).uniform(-1, 1)
        call, row = call * factor, row * factor
    return call / 2 + row, call / 2


def _limited(world: World, request: web.Request, kind: str, message: str) -> web.Response:
    world.services.refuse(kind, "REQUEST_LIMIT_EXCEEDED", message)
    return _json(
        request,
        [{"message": message, "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
        403,
        world.limit_info(),
    )


def _headers(request: web.Request) -> dict[str, str]:
    """The headers in lower case.

    On a Composite itself those for rows do nothing: its subrequests carry their own.
    """
    return {name.lower(): value for name, value in request.headers.items()}


def _body(request: web.Request, raw: bytes) -> Any:
    if request.content_type != "application/json":
        message = f"Content-Type: {request.content_type} is not supported"
        raise CallRefused(415, "UNSUPPORTED_MEDIA_TYPE", message)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise CallRefused(
            400, "JSON_PARSER_ERROR", f"{error.msg} at [line:{error.lineno}, column:{error.colno}]"
        ) from None


async def _before(request: web.Request, fault: Fault | None) -> None:
    """What a fault does before any work. Raises _Cut."""
    if fault is None:
        return
    if fault.effect == "reset":
        raise _Cut
    if fault.effect == "hang":
        await _until_gone(request, fault.seconds or _HANG_SECONDS)
        raise _Cut
    if fault.effect == "delay":
        await asyncio.sleep(fault.seconds)


async def _until_gone(request: web.Request, seconds: float) -> None:
    """Wait until the client has given up, at most so long."""
    end = time.monotonic() + seconds
    # A connection has no event for its end.
    while (  # noqa: ASYNC110
        time.monotonic() < end
        and request.transport is not None
        and not request.transport.is_closing()
    ):
        await asyncio.sleep(_LOOK_SECONDS)


async def _after(fault: Fault | None, response: web.Response) -> web.Response:
    """What a fault does once the work is done. Raises _Cut."""
    if fault is None:
        return response
    if fault.effect == "cut_after":
        raise _Cut
    if fault.effect == "delay_after":
        await asyncio.sleep(fault.seconds)
    if fault.effect == "status_after":
        return _fault_answer(fault)
    return response


def _fault_answer(fault: Fault) -> web.Response:
    status, content_type, text, headers = fault.response()
    return web.Response(status=status, text=text, content_type=content_type, headers=headers)


def _shorten(served: Answer, fault: Fault) -> None:
    parts = served.body.get("compositeResponse") if isinstance(served.body, dict) else None
    if fault.effect == "short":
        if parts is not None:
            del parts[-fault.count :]
        elif isinstance(served.body, list):
            del served.body[-fault.count :]
        return
    for rows in [served.body] if parts is None else [part["body"] for part in parts]:
        if isinstance(rows, list):
            del rows[-fault.count :]


async def _document(request: web.Request) -> Any:
    raw = await request.read()
    try:
        return orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise BadValueError(f"not JSON: {error}") from None


async def _object(request: web.Request, *known: str) -> dict[str, Any]:
    document = await _document(request)
    if not isinstance(document, dict):
        raise BadValueError(f"an object is expected, not {document!r}")
    unknown = document.keys() - set(known)
    if known and unknown:
        raise BadValueError(f"{min(unknown)}: no such key; known: {', '.join(known)}")
    return document


async def _state(request: web.Request) -> web.Response:
    return _json(request, state(request.app[_WORLD]))


def state(world: World) -> dict[str, Any]:
    """The answer of `GET /_sim/state`.

    Records, calls by kind, rows, refusals and faults by word, and the users.
    """
    org = world.org
    return {
        "records": {name: len(org.tables[name].rows) for name in ("Account", "Contact", "Lead")},
        "calls": dict(world.calls),
        "calls_total": world.calls.total(),
        "api_calls": world.api_calls,
        "subrequests": dict(world.services.subrequests),
        "daily_used": world.used_today,
        "daily_limit": world.settings.daily_limit,
        "rows": {name: org.rows[name] for name in ("created", "updated", "failed")},
        "writes": org.sequence,
        "version_regressions": org.regressions,
        "refusals": dict(world.services.refused),
        "faults": dict(world.faults.met),
        "faults_queued": len(world.faults.queue),
        "auto_assign": dict(org.auto_assigned),
        "in_flight": world.traffic.in_flight,
        "most_in_flight": world.traffic.most_in_flight,
        "overlaps": {name: world.traffic.overlaps[name] for name in ("accounts", "people")},
        "tokens_issued": world.tokens_issued,
        "bytes_received": world.bytes_received,
        "gzipped_requests": world.gzipped_requests,
        "clock": world.now().isoformat(),
        "user_id": INTEGRATION_USER,
        "organization_id": world.org_id,
    }


async def _writes(request: web.Request) -> web.Response:
    after = _number(request, "after", 0)
    limit = _number(request, "limit", 1_000_000)
    writes = request.app[_WORLD].org.writes
    return _json(request, writes[after : after + limit])


def _number(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name)
    if given is None:
        return default
    if not given.isdecimal():
        raise BadValueError(f"{name}: a whole number from 0 up is expected, not {given!r}")
    return int(given)


async def _refusals(request: web.Request) -> web.Response:
    return _json(request, request.app[_WORLD].services.refusals)


async def _put_world(request: web.Request) -> web.Response:
    request.app[_WORLD].replace(await _object(request))
    return _json(request, state(request.app[_WORLD]))


async def _post_settings(request: web.Request) -> web.Response:
    world = request.app[_WORLD]
    world.change_settings(await _object(request))
    return _json(request, dataclasses.asdict(world.settings))


async def _get_faults(request: web.Request) -> web.Response:
    faults = request.app[_WORLD].faults
    queue = [
        dataclasses.asdict(fault) | {"kinds": sorted(fault.kinds) if fault.kinds else None}
        for fault in faults.queue
    ]
    random = faults.random
    return _json(
        request,
        {"queue": queue, "random": dict(random.rates) if random else None, "met": dict(faults.met)},
    )


async def _post_faults(request: web.Request) -> web.Response:
    document = await _object(request, "faults")
    listed = document.get("faults")
    if not isinstance(listed, list):
        raise BadValueError(f"faults: a list is expected, not {listed!r}")
    faults = [parse_fault(item) for item in listed]
    queue = request.app[_WORLD].faults.queue
    queue.extend(faults)
    return _json(request, {"queued": len(queue)})


async def _put_random(request: web.Request) -> web.Response:
    request.app[_WORLD].faults.random = parse_random(await _object(request))
    return _json(request, {})


async def _delete_faults(request: web.Request) -> web.Response:
    request.app[_WORLD].faults.clear()
    return _json(request, {})


async def _post_clock(request: web.Request) -> web.Response:
    world = request.app[_WORLD]
    document = await _object(request, "now", "frozen", "advance_seconds")
    advance = document.get("advance_seconds", 0)
    if type(advance) not in (int, float):
        raise BadValueError(f"advance_seconds: a number is expected, not {advance!r}")
    now = document.get("now")
    moment = world.now().timestamp()
    if now is not None:
        try:
            moment = datetime.fromisoformat(now).astimezone().timestamp()
        except (TypeError, ValueError):
            raise BadValueError(f"now: an ISO date and time is expected, not {now!r}") from None
    moment += advance
    frozen = document.get("frozen", world.frozen_at is not None)
    if type(frozen) is not bool:
        raise BadValueError(f"frozen: true or false is expected, not {frozen!r}")
    world.frozen_at = moment if frozen else None
    world.clock_offset = moment - time.time()
    return _json(request, {"now": world.now().isoformat(), "frozen": frozen})


async def _expire_tokens(request: web.Request) -> web.Response:
    request.app[_WORLD].tokens.clear()
    return _json(request, {})


async def _convert(request: web.Request) -> web.Response:
    document = await _object(request, "lead", "contact")
    lead, contact = document.get("lead"), document.get("contact")
    if not isinstance(lead, str) or not (contact is None or isinstance(contact, str)):
        raise BadValueError(
            "lead: the Id of a Lead is expected; contact: the Id of a Contact or null"
        )
    return _json(request, request.app[_WORLD].convert(lead, contact))


async def _merge(request: web.Request) -> web.Response:
    document = await _object(request, "sobject", "master", "losers", "values")
    losers, values = document.get("losers"), document.get("values", {})
    if not isinstance(losers, list) or not all(isinstance(key, str) for key in losers):
        raise BadValueError("losers: a list of Ids is expected")
    if not isinstance(values, dict):
        raise BadValueError("values: an object of fields is expected")
    master = request.app[_WORLD].merge(
        str(document.get("sobject")), str(document.get("master")), losers, values
    )
    return _json(request, master)


async def _undelete(request: web.Request) -> web.Response:
    document = await _object(request, "sobject", "id")
    world = request.app[_WORLD]
    return _json(request, world.undelete(str(document.get("sobject")), str(document.get("id"))))


async def _empty_recycle_bin(request: web.Request) -> web.Response:
    request.app[_WORLD].empty_recycle_bin()
    return _json(request, {})


def _sobject(request: web.Request) -> str:
    name = request.match_info["sobject"]
    if name not in request.app[_WORLD].org.tables:
        raise BadValueError(f"{name!r} is not one of {', '.join(request.app[_WORLD].org.tables)}")
    return name


async def _get_records(request: web.Request) -> web.Response:
    table = request.app[_WORLD].org.tables[_sobject(request)]
    deleted = table.bin.values() if request.query.get("deleted") == "true" else ()
    return _json(request, [*table.rows.values(), *deleted])


async def _post_record(request: web.Request) -> web.Response:
    name = _sobject(request)
    return _json(request, request.app[_WORLD].add(name, await _object(request), name), 201)


async def _patch_record(request: web.Request) -> web.Response:
    name = _sobject(request)
    return _json(
        request, request.app[_WORLD].edit(name, request.match_info["id"], await _object(request))
    )


async def _delete_record(request: web.Request) -> web.Response:
    request.app[_WORLD].delete(_sobject(request), request.match_info["id"])
    return _json(request, {})
