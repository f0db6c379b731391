"""The HTTP API: grants, contacts and webhook destinations, with limits and error bodies."""

from __future__ import annotations

import asyncio
import gzip
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NoReturn

from aiohttp import web

from connectors.nylas.simulator import events
from connectors.nylas.simulator.delivery import (
    MOCK_SECRET,
    DeliveryAttempt,
    WebhookDelivery,
    encoded,
    envelope,
    letter,
)
from connectors.nylas.simulator.faults import Rule
from connectors.nylas.simulator.world import (
    CONTACT_TRIGGERS,
    GRANT_TRIGGERS,
    BadInput,
    Contact,
    Cursor,
    Destination,
    Grant,
    World,
    new_secret,
    wanted,
)

CONTACTS_LIMIT = (30, 200)
GRANTS_LIMIT = (10, 200)
SMALLEST_GZIP = 200
# What tells the cursor of a listing of groups from one of contacts.
GROUPS_QUERY = (("groups", ""),)

TRIGGERS = frozenset(
    {
        *CONTACT_TRIGGERS,
        *GRANT_TRIGGERS,
        "grant.imap_sync_completed",
        *(
            f"{thing}.{what}"
            for thing in ("calendar", "event", "folder")
            for what in ("created", "updated", "deleted")
        ),
        "message.created",
        "message.updated",
        "message.deleted",
        "message.send_success",
        "message.send_failed",
        "message.bounce_detected",
        "message.opened",
        "message.link_clicked",
        "message.created.truncated",
        "message.created.cleaned",
        "message.updated.truncated",
        "thread.replied",
    }
)

HTML_502 = """<html>\r
<head><title>502 Bad Gateway</title></head>\r
<body><center><h1>502 Bad Gateway</h1></center></body>\r
</html>\r
"""


class Refusal(Exception):
    """An error answer of the documented form."""

    def __init__(
        self, status: int, kind: str, message: str, provider_error: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.provider_error = provider_error
        self.retry_after: float | None = None


@dataclass(slots=True)
class Windows:
    """Fixed windows: how many calls of a key there were in the current one.

    Measured by the machine's clock, not the simulated.
    """

    counted: dict[str, tuple[int, int]] = field(default_factory=dict)

    def over(self, key: str, limit: int, span: float) -> bool:
        if not limit:
            return False
        window = int(time.monotonic() / span)
        start, count = self.counted.get(key, (window, 0))
        count = count + 1 if start == window else 1
        self.counted[key] = (window, count)
        return count > limit


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Api:
    """The handlers of /v3 over a world; `delivery` carries what their changes cause."""

    world: World
    delivery: WebhookDelivery
    windows: Windows = field(default_factory=Windows)
    mailboxes: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v3/grants", self._handler("grants", self.list_grants)),
            web.get("/v3/grants/{grant_id}", self._handler("grant", self.get_grant)),
            web.delete("/v3/grants/{grant_id}", self._handler("grant", self.delete_grant)),
            web.get(
                "/v3/grants/{grant_id}/contacts", self._handler("contacts", self.list_contacts)
            ),
            web.get(
                "/v3/grants/{grant_id}/contacts/groups", self._handler("groups", self.list_groups)
            ),
            web.get(
                "/v3/grants/{grant_id}/contacts/{contact_id}",
                self._handler("contact", self.get_contact),
            ),
            web.get("/v3/webhooks", self._handler("webhooks", self.list_webhooks)),
            web.post("/v3/webhooks", self._handler("webhooks", self.create_webhook)),
            web.post(
                "/v3/webhooks/rotate-secret/{id}", self._handler("webhooks", self.rotate_secret)
            ),
            web.post(
                "/v3/webhooks/send-test-event", self._handler("webhooks", self.send_test_event)
            ),
            web.post("/v3/webhooks/mock-payload", self._handler("webhooks", self.mock_payload)),
            web.get("/v3/webhooks/{id}", self._handler("webhooks", self.get_webhook)),
            web.put("/v3/webhooks/{id}", self._handler("webhooks", self.update_webhook)),
            web.delete("/v3/webhooks/{id}", self._handler("webhooks", self.delete_webhook)),
            web.route("*", "/v3/{rest:.*}", self._handler("unknown", self.unknown)),
        ]

    def _handler(self, call: str, handler: Handler) -> Handler:
        async def run(request: web.Request) -> web.StreamResponse:
            self.world.calls[call] += 1
            try:
                answer = await self._guarded(call, request, handler)
            except Refusal as refusal:
                answer = self._refused(request, refusal)
            except BadInput as error:
                answer = self._refused(request, Refusal(400, "invalid_request_error", str(error)))
            self.world.answers[f"{call} {answer.status}"] += 1
            return answer

        return run

    async def _guarded(
        self, call: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.world.api_key}":
            raise Refusal(401, "unauthorized", "Unauthorized")
        settings = self.world.settings
        name = request.match_info.get("grant_id", "")
        grant = self.world.grant(name)
        grant_id = grant.id if grant else name
        per_second, whose = {
            "contacts": (settings.contacts_per_second, grant_id),
            "contact": (settings.contacts_per_second, grant_id),
            "groups": (settings.contacts_per_second, grant_id),
            "webhooks": (settings.webhooks_per_second, ""),
        }.get(call, (settings.grants_per_second, ""))
        if self.windows.over(f"{call.removesuffix('s')} {whose}", per_second, 1.0):
            raise Refusal(429, "nylas_rate_limit_exceeded", "Too many requests")
        rule = self.world.faults.next(call, grant_id, later_page="page_token" in request.query)
        if rule is not None:
            faulty = await self._faulty(request, rule, handler)
            if faulty is not None:
                return faulty
        if call not in ("contacts", "contact", "groups") or grant is None:
            await asyncio.sleep(settings.latency)
            return await handler(request)
        self._provider_limits(grant)
        self.mailboxes[grant_id] += 1
        try:
            await asyncio.sleep(settings.latency)
            return await handler(request)
        finally:
            self.mailboxes[grant_id] -= 1

    def _provider_limits(self, grant: Grant) -> None:
        settings = self.world.settings
        if grant.provider == "google" and self.windows.over(
            f"google {grant.id}", settings.google_per_minute, 60.0
        ):
            raise Refusal(
                429,
                "rate_limit_error",
                "Rate limit exceeded",
                {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}},
            )
        if grant.provider == "microsoft":
            if (
                settings.microsoft_concurrency
                and self.mailboxes[grant.id] >= settings.microsoft_concurrency
            ):
                message = "Application is over its MailboxConcurrency limit."
                raise Refusal(
                    429,
                    "rate_limit_error",
                    message,
                    {"error": {"code": "ApplicationThrottled", "message": message}},
                )
            if self.windows.over(f"microsoft {grant.id}", settings.microsoft_per_10_minutes, 600.0):
                refusal = Refusal(
                    429,
                    "rate_limit_error",
                    "Account throttled",
                    {"error": {"code": "TooManyRequests"}},
                )
                refusal.retry_after = 10
                raise refusal

    async def _faulty(
        self, request: web.Request, rule: Rule, handler: Handler
    ) -> web.StreamResponse | None:
        """The answer that the fault makes, or None where the call goes its way."""
        kind = rule.kind
        if kind == "slow":
            await asyncio.sleep(rule.seconds)
            return None
        if kind in ("hang", "cut"):
            await asyncio.sleep(rule.seconds)
            return self._cut(request)
        if kind == "truncated":
            return await self._truncated(request, await handler(request))
        if kind == "html":
            return self._text(request, 200, "<html><body>Hello</body></html>", "text/html")
        if kind == "bad_gateway":
            return self._text(request, 502, HTML_502, "text/html")
        if kind == "empty":
            return self._text(request, 504, "", "application/json")
        if kind == "text_error":
            return self._json(request, {"error": "internal error"}, 500)
        if kind in ("repeated_cursor", "moved_missed", "moved_twice"):
            return await self.list_contacts(request, kind)
        refusal = {
            "lost_cursor": Refusal(400, "invalid_request_error", "Invalid page token"),
            "nylas_limit": Refusal(429, "nylas_rate_limit_exceeded", "Too many requests"),
            "provider_limit": Refusal(
                429, "rate_limit_error", "Account throttled", {"error": {"code": 429}}
            ),
            "quota": Refusal(
                429, "quota_exceeded_error", "Activity limit reached", {"error": {"code": 429}}
            ),
            "server_error": Refusal(
                500, "internal_error", "Internal error, contact administrator."
            ),
            "unavailable": Refusal(503, "service_unavailable", "Service Unavailable"),
            "provider_timeout": Refusal(504, "provider_error", "Provider request timed out."),
            "unauthorized": Refusal(401, "unauthorized", "Unauthorized"),
        }[kind]
        if kind == "provider_limit":
            refusal.retry_after = rule.retry_after
        raise refusal

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=HTTPStatus.GATEWAY_TIMEOUT)

    async def _truncated(
        self, request: web.Request, whole: web.StreamResponse
    ) -> web.StreamResponse:
        body = (
            whole.body
            if isinstance(whole, web.Response) and isinstance(whole.body, bytes)
            else b"{}"
        )
        answer = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
        )
        if "Content-Encoding" in whole.headers:
            answer.headers["Content-Encoding"] = whole.headers["Content-Encoding"]
        await answer.prepare(request)
        await answer.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return answer

    def _refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        dialect = (
            ""
            if "." in refusal.kind or refusal.kind.isdigit()
            else self.world.settings.error_dialect
        )
        error: dict[str, Any] = {"type": dialect + refusal.kind, "message": refusal.message}
        if refusal.provider_error is not None:
            error["provider_error"] = dict(refusal.provider_error)
        answer = self._json(
            request, {"request_id": str(uuid.uuid4()), "error": error}, refusal.status
        )
        if refusal.retry_after is not None:
            answer.headers["Retry-After"] = f"{refusal.retry_after:g}"
        return answer

    def _text(
        self, request: web.Request, status: int, text: str, content_type: str
    ) -> web.Response:
        answer = web.Response(status=status, text=text, content_type=content_type)
        answer.headers["Date"] = formatdate(self.world.clock.now(), usegmt=True)
        return answer

    def _json(self, request: web.Request, value: object, status: int = 200) -> web.Response:
        body = encoded(value)
        headers = {
            "Content-Type": "application/json",
            "Date": formatdate(self.world.clock.now(), usegmt=True),
        }
        if len(body) >= SMALLEST_GZIP and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return web.Response(status=status, body=body, headers=headers)

    def _ok(self, request: web.Request, data: object, **more: object) -> web.Response:
        return self._json(request, {"request_id": str(uuid.uuid4()), "data": data, **more})

    async def unknown(self, request: web.Request) -> NoReturn:
        raise Refusal(404, "not_found_error", "Resource not found.")

    def _grant(self, request: web.Request) -> Grant:
        grant = self.world.grant(request.match_info["grant_id"])
        if grant is None:
            raise Refusal(404, "grant.not_found", "Grant not found.")
        return grant

    async def list_grants(self, request: web.Request) -> web.Response:
        query = request.query
        limit, offset = number(query, "limit", GRANTS_LIMIT), number(query, "offset", (0, None))
        sort_by, order_by = query.get("sort_by", "created_at"), query.get("order_by", "desc")
        if sort_by not in ("created_at", "updated_at") or order_by not in ("asc", "desc"):
            raise Refusal(400, "invalid_request_error", f"sort_by={sort_by} order_by={order_by}")
        since, before = number(query, "since", (0, None)), number(query, "before", (2**53, None))
        found = [
            grant
            for grant in self.world.grants.values()
            if query.get("email", grant.email).lower() == grant.email.lower()
            and query.get("provider", grant.provider) == grant.provider
            and query.get("grant_status", grant.grant_status) == grant.grant_status
            and since <= grant.created_at < before
        ]
        found.sort(key=lambda grant: int(getattr(grant, sort_by)), reverse=order_by == "desc")
        page = [with_aliases(grant, query) for grant in found[offset : offset + limit]]
        return self._ok(request, page, limit=limit, offset=offset)

    async def get_grant(self, request: web.Request) -> web.Response:
        return self._ok(request, with_aliases(self._grant(request), request.query))

    async def delete_grant(self, request: web.Request) -> web.Response:
        events.deleted(self.world, self.delivery, self._grant(request))
        return self._json(request, {"request_id": str(uuid.uuid4())})

    def _book(self, request: web.Request) -> tuple[Grant, dict[str, Contact]]:
        grant = self._grant(request)
        if grant.grant_status != "valid":
            raise Refusal(
                401, "grant.refresh_token_invalid", "Invalid refresh_token supplied to Grant."
            )
        return grant, grant.visible(self.world.clock.now())

    async def list_contacts(self, request: web.Request, fault: str = "") -> web.Response:
        grant, book = self._book(request)
        limit = number(request.query, "limit", CONTACTS_LIMIT)
        query = tuple(
            sorted(
                (name, value)
                for name, value in request.query.items()
                if name not in ("limit", "page_token", "select")
            )
        )
        token = request.query.get("page_token")
        if token is None:
            cursor = Cursor(grant.id, query, matching(grant, book, request.query), 0)
        else:
            known = self.world.cursors.get(token)
            if known is None or known.grant_id != grant.id or known.query != query:
                raise Refusal(400, "invalid_request_error", "Invalid page token")
            cursor = known
        ids, end = cursor.ids, cursor.served + limit
        page = [book[one] for one in ids[cursor.served : end] if one in book]
        if fault == "moved_missed" and end < len(ids):
            ids = [*ids[:end], *ids[end + 1 :]]
        elif fault == "moved_twice":
            ids = [*ids, *ids[cursor.served : cursor.served + 1]]
        more: dict[str, object] = {}
        if fault == "repeated_cursor":
            more["next_cursor"] = token
        elif end < len(ids):
            more["next_cursor"] = self.world.begin(Cursor(grant.id, query, ids, end))
        elif grant.rules.ends_with_null:
            more["next_cursor"] = None
        answer = self._ok(
            request, [selected(contact, request.query.get("select")) for contact in page], **more
        )
        answer.headers["Nylas-Provider-Request-Count"] = "1"
        return answer

    async def list_groups(self, request: web.Request) -> web.Response:
        """The contact groups of a grant. [list-contact-groups: "Not supported for EWS"]"""
        grant, _ = self._book(request)
        if not grant.rules.groups:
            raise Refusal(
                400,
                "invalid_request_error",
                f"contact groups are not supported by {grant.provider}",
            )
        limit = number(request.query, "limit", CONTACTS_LIMIT)
        token = request.query.get("page_token")
        if token is None:
            cursor = Cursor(grant.id, GROUPS_QUERY, list(grant.groups), 0)
        else:
            known = self.world.cursors.get(token)
            if known is None or known.grant_id != grant.id or known.query != GROUPS_QUERY:
                raise Refusal(400, "invalid_request_error", "Invalid page token")
            cursor = known
        end = cursor.served + limit
        page = [
            {
                "id": each,
                "grant_id": grant.id,
                "object": "contact_group",
                "group_type": "user",
                "name": grant.groups[each],
            }
            for each in cursor.ids[cursor.served : end]
            if each in grant.groups
        ]
        more: dict[str, object] = {}
        if end < len(cursor.ids):
            more["next_cursor"] = self.world.begin(Cursor(grant.id, GROUPS_QUERY, cursor.ids, end))
        return self._ok(
            request, [selected(group, request.query.get("select")) for group in page], **more
        )

    async def get_contact(self, request: web.Request) -> web.Response:
        _, book = self._book(request)
        contact = book.get(request.match_info["contact_id"])
        if contact is None:
            raise Refusal(404, "not_found_error", "Resource not found.")
        answer = self._ok(request, selected(contact, request.query.get("select")))
        answer.headers["Nylas-Provider-Request-Count"] = "1"
        return answer

    def _destination(self, request: web.Request) -> Destination:
        destination = self.world.destinations.get(request.match_info["id"])
        if destination is None:
            raise Refusal(400, "70000", "destination.id.not.found : record not found")
        return destination

    async def list_webhooks(self, request: web.Request) -> web.Response:
        return self._ok(request, [shown(one) for one in self.world.destinations.values()])

    async def get_webhook(self, request: web.Request) -> web.Response:
        destination = self._destination(request)
        return self._ok(request, shown(destination) | times(destination))

    async def create_webhook(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        url = wanted(given, "webhook_url", str, "")
        if not url.startswith(("http://", "https://")):
            raise Refusal(400, "70001", "webhook_url.required")
        check_triggers(given.get("trigger_types"))
        await self._proved(url)
        names = {"description", "trigger_types", "notification_email_addresses"}
        source = {
            name: value for name, value in given.items() if name in names and value is not None
        }
        compressed = given.get("compressed_delivery", False)
        destination = self.world.add_destination({**source, "url": url, "compressed": compressed})
        return self._ok(request, shown(destination) | {"webhook_secret": destination.secret})

    async def update_webhook(self, request: web.Request) -> web.Response:
        destination = self._destination(request)
        given = await body_of(request)
        status = wanted(given, "status", str, destination.status)
        if "status" in given and status not in ("active", "pause"):
            raise Refusal(400, "70000", f"status.invalid : {status}")
        if given.get("trigger_types"):
            check_triggers(given["trigger_types"])
        url = wanted(given, "webhook_url", str, "") or destination.url
        addresses = wanted(given, "notification_email_addresses", list, [])
        compressed = wanted(given, "compressed_delivery", bool, destination.compressed)
        description = wanted(given, "description", str, "")
        if url != destination.url or (status == "active" and destination.status != "active"):
            await self._proved(url)
        now = int(self.world.clock.now())
        if status != destination.status:
            destination.status, destination.status_updated_at = status, now
            destination.minutes.clear()
        # Empty fields do not overwrite.
        destination.url, destination.compressed, destination.updated_at = url, compressed, now
        destination.trigger_types = given.get("trigger_types") or destination.trigger_types
        destination.notification_email_addresses = (
            addresses or destination.notification_email_addresses
        )
        destination.description = description or destination.description
        return self._ok(request, shown(destination) | times(destination))

    async def delete_webhook(self, request: web.Request) -> web.Response:
        del self.world.destinations[self._destination(request).id]
        return self._ok(request, {"status": "success"})

    async def rotate_secret(self, request: web.Request) -> web.Response:
        destination = self._destination(request)
        destination.secret = new_secret()
        data = {
            name: value
            for name, value in shown(destination).items()
            if name != "compressed_delivery"
        }
        return self._ok(request, data | {"webhook_secret": destination.secret})

    async def send_test_event(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        check_triggers([given.get("trigger_type")])
        url = wanted(given, "webhook_url", str, "")
        if not url.startswith(("http://", "https://")):
            raise Refusal(400, "70001", "webhook_url.required")
        sample = self._sample(wanted(given, "trigger_type", str, ""))
        target = self.world.destinations.get("") or _nowhere(url)
        sent, headers = letter(
            target, DeliveryAttempt("", "", sample, "", gzip=False, signature="mock")
        )
        status = await self.delivery.post(url, sent, headers)
        return self._ok(request, "success" if status == 200 else "failed")

    async def mock_payload(self, request: web.Request) -> web.Response:
        given = await body_of(request)
        check_triggers([given.get("trigger_type")])
        return self._ok(request, self._sample(wanted(given, "trigger_type", str, "")))

    def _sample(self, trigger: str) -> dict[str, Any]:
        thing = trigger.partition(".")[0]
        body: dict[str, Any] = {"grant_id": "mock-grant-id", "id": "mock-id", "object": thing}
        if trigger == "contact.updated":
            body |= {
                "given_name": "Nyla",
                "surname": "Sample",
                "emails": [{"email": "nyla@sample.example", "type": "work"}],
            }
        source = "/nylas/system" if thing == "grant" else f"/google/{thing}s/incremental"
        return envelope(self.world, trigger, source, body, notification_id="mock-id")

    async def _proved(self, url: str) -> None:
        wrong = await self.delivery.challenge(url)
        if wrong is not None:
            raise Refusal(400, "70005", f"unable.verify.webhook_url : {wrong}")


def with_aliases(grant: Grant, query: Mapping[str, str]) -> dict[str, Any]:
    """A grant as the API shows it.

    Its aliases only when asked for, and only at Google and Microsoft.
    """
    told = query.get("expose_aliases") == "true" and grant.provider in ("google", "microsoft")
    return grant.as_json() | ({"email_aliases": grant.email_aliases} if told else {})


def _nowhere(url: str) -> Destination:
    return Destination("", url, MOCK_SECRET, [], False, "", [], "active", 0, 0, 0)


async def body_of(request: web.Request) -> Mapping[str, Any]:
    try:
        given = await request.json()
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_request_payload", "Invalid JSON payload format.") from None
    if not isinstance(given, dict):
        raise Refusal(400, "invalid_request_payload", "Invalid JSON payload format.")
    return given


def check_triggers(given: object) -> None:
    """contact.created exists no more, and a wrong word is refused. Raises Refusal."""
    if not isinstance(given, list) or not given:
        raise Refusal(400, "70001", "trigger_types.required")
    unknown = [one for one in given if one not in TRIGGERS]
    if unknown:
        raise Refusal(400, "70000", f"trigger_types.invalid : {unknown[0]}")


def shown(destination: Destination) -> dict[str, Any]:
    """A destination as listings show it: without its secret."""
    return {
        "id": destination.id,
        "description": destination.description,
        "trigger_types": destination.trigger_types,
        "webhook_url": destination.url,
        "status": destination.status,
        "notification_email_addresses": destination.notification_email_addresses,
        "compressed_delivery": destination.compressed,
    }


def times(destination: Destination) -> dict[str, Any]:
    return {
        "status_updated_at": destination.status_updated_at,
        "created_at": destination.created_at,
        "updated_at": destination.updated_at,
    }


def number(query: Mapping[str, str], name: str, default_and_most: tuple[int, int | None]) -> int:
    """A whole number of the query; `limit` is at least 1. Raises Refusal."""
    default, most = default_and_most
    text = query.get(name, str(default))
    least = 1 if name == "limit" else 0
    if (
        not text.isascii()
        or not text.isdigit()
        or int(text) < least
        or (most is not None and int(text) > most)
    ):
        raise Refusal(
            400,
            "invalid_request_error",
            f"{name} must be a number from {least} to {most}, got {text!r}",
        )
    return int(text)


def selected(contact: Contact, select: str | None) -> Contact:
    if not select:
        return contact
    names = set(select.split(","))
    return {name: value for name, value in contact.items() if name in names}


# What the grant must have been asked for before a listing of this source works, where its scopes
# are known.
SCOPES = {
    ("google", "inbox"): "contacts.other.readonly",
    ("google", "domain"): "directory.readonly",
    ("microsoft", "inbox"): "People.Read",
    ("microsoft", "domain"): "People.Read",
}


def matching(grant: Grant, book: Mapping[str, Contact], query: Mapping[str, str]) -> list[str]:
    """The IDs that a listing's filters leave, in the book's order.

    Raises Refusal for a filter that the provider lacks.
    """
    sources = set(query.get("source", "address_book").split(","))
    wrong = sources - set(grant.rules.sources)
    if wrong or (len(sources) > 1 and not grant.rules.several_sources):
        raise Refusal(
            400,
            "invalid_request_error",
            f"source {','.join(sorted(sources))} is not supported by {grant.provider}",
        )
    for source in sources:
        scope = SCOPES.get((grant.provider, source))
        if scope and grant.scope and not any(scope in one for one in grant.scope):
            raise Refusal(
                403,
                "provider_error",
                "Insufficient scopes",
                {"error": {"code": 403, "scope": scope}},
            )
    if ("phone_number" in query and not grant.rules.phone_filter) or (
        "group" in query and not grant.rules.groups
    ):
        raise Refusal(
            400, "invalid_request_error", f"this filter is not supported by {grant.provider}"
        )
    email, phone, group = (
        query.get("email", "").lower(),
        query.get("phone_number", ""),
        query.get("group", ""),
    )
    return [
        contact_id
        for contact_id, contact in book.items()
        if contact["source"] in sources
        and (
            not email
            or any(email in value.lower() for value in _values(contact, "emails", "email"))
        )
        and (
            not phone
            or any(phone in value for value in _values(contact, "phone_numbers", "number"))
        )
        and (not group or group in _values(contact, "groups", "id"))
    ]


def _values(contact: Contact, name: str, part: str) -> list[str]:
    return [str(one.get(part) or "") for one in contact.get(name) or [] if isinstance(one, dict)]
