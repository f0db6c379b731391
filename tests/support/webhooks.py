"""Notifications from Nylas, a broken sender or an attacker, each with its expected result.

And a client to send them.
"""

import asyncio
import gzip
import hashlib
import hmac
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

SECRET = "41dD3-nXTUfebYuk81Gr"

# The bridge promises an answer within 8 s of a request's last byte; the machine is shared.
BRIDGE_ANSWER_SECONDS = 15.0


def sign(raw: bytes, secret: str = SECRET) -> str:
    """The value of X-Nylas-Signature."""
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def contact_body(grant: str, contact: str, kind: str = "contact.updated", **fields: Any) -> bytes:
    """An envelope around a contact."""
    return envelope_body(kind, {"grant_id": grant, "id": contact, "object": "contact"} | fields)


def envelope_body(kind: str, subject: Any, **changes: Any) -> bytes:
    """An envelope around anything."""
    envelope = {
        "specversion": "1.0",
        "type": kind,
        "source": "/google/contacts/incremental",
        "id": "n-1",
        "time": 1_723_821_985,
        "webhook_delivery_attempt": 1,
        "data": {"application_id": "app", "object": subject},
    }
    return json.dumps(envelope | changes).encode()


def request(
    raw: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    path: str = "/",
    signed: bool = True,
) -> bytes:
    """A whole HTTP request, with a valid signature if `signed`. `headers` override."""
    given = {"Host": "bridge", "Content-Type": "application/json", "Content-Length": str(len(raw))}
    if signed:
        given["X-Nylas-Signature"] = sign(raw)
    given |= headers or {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogatepass") + raw


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; status 0 when the connection was refused, or ended without an answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Client:
    """One connection of HTTP/1.1, reopened when the bridge has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> Answer:
        """Sends bytes and waits for one answer, or the end of the connection.

        Raises AssertionError when neither comes in time.
        """
        try:
            async with asyncio.timeout(BRIDGE_ANSWER_SECONDS):
                return await self._send(data)
        except TimeoutError:
            raise AssertionError(
                f"no answer within {BRIDGE_ANSWER_SECONDS:.0f} s to {data[:300]!r}"
            ) from None

    async def _send(self, data: bytes) -> Answer:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(data)
            answer = await _read_answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            answer = Answer(0)
        if answer.status == 0 or answer.headers.get("connection") == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    headers = {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in head[1:] if line)
    }
    if status == 100:
        return await _read_answer(reader)
    if head[0].startswith("HTTP/1.0"):
        headers.setdefault("connection", "close")
    return Answer(
        status, headers, await reader.readexactly(int(headers.get("content-length", "0")))
    )


async def send_all(port: int, requests: Sequence[bytes], connections: int = 32) -> list[Answer]:
    """The answers in the order of the requests, sent over so many kept connections."""
    answers = [Answer(0)] * len(requests)
    waiting = iter(range(len(requests)))

    async def work() -> None:
        client = Client(port)
        for position in waiting:
            answers[position] = await client.send(requests[position])
        await client.close()

    await asyncio.gather(*(work() for _ in range(min(connections, len(requests)))))
    return answers


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request, the statuses allowed as its answer, and where its record has to be."""

    data: bytes
    statuses: frozenset[int]
    topic: str | None = None
    """The topic that has to hold exactly one record of it: events, grants or dead-letter.

    `kept`: events or dead-letter. `anywhere`: one of the three. `unread`: dead-letter or none.
    None: no topic.
    """
    value: bytes = b""
    key: bytes | None = None


_marks = itertools.count(10**19)
_ids = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffd"),
    min_size=1,
    max_size=12,
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_noise = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70)


_MARK = b"%020d" % 0
_ENCODINGS = ("plain", "plain", "plain", "gzip", "gzip", "cut", "twice", "not gzip", "br")
_SIGNATURES = (
    "lower",
    "lower",
    "upper",
    "blanks",
    "prefix",
    "none",
    "random",
    "other secret",
    "mock",
    "inflated",
    "changed",
    "doubled",
    "followed",
    "preceded",
)


@st.composite
def webhooks(draw: st.DrawFn) -> list[Webhook]:
    """A request of any kind that the webhook's port may get, ten times with other signatures.

    Each body has a number of its own, by which its record is found.
    """
    template, topic, key = draw(_bodies())
    encoding, cut = draw(st.sampled_from(_ENCODINGS)), draw(st.integers(1, 8))
    path = draw(st.sampled_from(["/", "/webhooks/nylas", "/?a=b", "//", "/%00"]))
    chunked, noise = draw(st.sampled_from([False, False, False, True])), draw(_noise)
    old = draw(st.sampled_from([False] * 7 + [True])) and not chunked
    family = []
    for signature in draw(st.lists(st.sampled_from(_SIGNATURES), min_size=10, max_size=10)):
        body = template.replace(_MARK, b"%020d" % next(_marks))
        raw, kept, place = _encoded(body, encoding, cut, topic)
        headers = (
            {}
            if encoding == "plain"
            else {"Content-Encoding": "br" if encoding == "br" else "gzip"}
        )
        value, valid = _signature(signature, raw, body, noise)
        if value is not None:
            headers["X-Nylas-Signature"] = value
        if signature == "changed":
            raw += b" "
        data = (
            _chunked(raw, headers, path)
            if chunked
            else request(raw, headers, path=path, signed=False)
        )
        if old:
            data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
        if valid:
            status = 415 if encoding == "br" else 200
            family.append(
                Webhook(data, frozenset({status}), place, kept, key if place == topic else None)
            )
        else:
            family.append(Webhook(data, frozenset({401}), None, kept))
    return family


def _encoded(
    body: bytes, encoding: str, cut: int, topic: str | None
) -> tuple[bytes, bytes, str | None]:
    """The bytes sent, the value of their record, and its topic."""
    packed = gzip.compress(body, mtime=0)
    match encoding:
        case "plain":
            return body, body, topic
        case "gzip":
            return packed, body, topic
        case "cut":
            raw = packed[:-cut]
        case "twice":
            raw = packed * 2
        case _:
            raw = body
    return raw, raw, "dead-letter"


def _signature(kind: str, raw: bytes, body: bytes, noise: str) -> tuple[str | None, bool]:
    """A header's value, and whether it is a signature of the raw bytes."""
    match kind:
        case "lower" | "changed":
            return sign(raw), kind == "lower"
        case "upper":
            return sign(raw).upper(), True
        case "blanks":
            return f"  {sign(raw)} ", True
        case "prefix":
            return f"sha256={sign(raw)}", True
        case "doubled":
            return _twice(sign(raw), sign(raw)), True
        case "followed":  # the first of two headers counts
            return _twice(sign(raw), sign(raw, "another")), True
        case "preceded":
            return _twice(sign(raw, "another"), sign(raw)), False
        case "none":
            return None, False
        case "random":
            return noise, False
        case "other secret":
            return sign(raw, "another"), False
        case "mock":
            return sign(raw, "mock-webhook-secret"), False
        case _:
            return sign(body + b" " if raw == body else body), False


def _twice(first: str, second: str) -> str:
    """A value that makes the header appear twice."""
    return f"{first}\r\nX-Nylas-Signature: {second}"


@st.composite
def _bodies(draw: st.DrawFn) -> tuple[bytes, str | None, bytes | None]:
    """A body with `_MARK` in it, and the topic and key that it has to get when it is signed."""
    mark = _MARK.decode()
    match draw(
        st.sampled_from(
            ["contact", "contact", "contact", "grant", "other", "odd", "mutated", "bytes", "deep"]
        )
    ):
        case "contact":
            grant, contact = draw(_ids).replace("/", "-"), draw(_ids)
            fields: Any = draw(
                st.dictionaries(st.sampled_from(["emails", "notes", "surname"]), _json, max_size=2)
            )
            kind = draw(
                st.sampled_from(["contact.updated", "contact.deleted", "contact.updated.truncated"])
            )
            fields = json.loads(json.dumps(fields).replace("NaN", "0").replace("Infinity", "0"))
            return (
                contact_body(grant, contact, kind, **fields, mark=mark),
                "events",
                f"{grant}/{contact}".encode(),
            )
        case "grant":
            grant = draw(_ids)
            kind = draw(
                st.sampled_from(
                    ["grant.created", "grant.expired", "grant.deleted", "grant.new_thing"]
                )
            )
            return (
                envelope_body(kind, {"grant_id": grant, "code": 25009, "mark": mark}),
                "grants",
                grant.encode(),
            )
        case "other":
            kind = draw(st.sampled_from(["message.created", "contact", "grant"]))
            return envelope_body(kind, {"mark": mark}), None, None
        case "odd":
            subject = {"grant_id": draw(_json), "id": draw(_json), "mark": mark}
            return envelope_body("contact.updated", subject), "kept", None
        case "mutated":
            body = bytearray(contact_body("g", "c", mark=mark))
            start = body.index(b'"mark"')  # the number itself stays whole
            for position, value in draw(
                st.lists(st.tuples(st.integers(0, start - 1), st.integers(0, 255)), max_size=4)
            ):
                body[position] = value
            return bytes(body), "unread" if _of_another_type(bytes(body)) else "anywhere", None
        case "bytes":
            return mark.encode() + b"!" + draw(st.binary(max_size=60)), "dead-letter", None
        case _:
            return b"[" * draw(st.integers(2000, 10_000)) + mark.encode(), "dead-letter", None


def _of_another_type(body: bytes) -> bool:
    """Whether it is readable, and of a type other than a contact's or a grant's."""
    try:
        kind = json.loads(body.decode("utf-8", "surrogatepass"))["type"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(kind, str) and kind != "" and not kind.startswith(("contact.", "grant."))


def _chunked(raw: bytes, headers: Mapping[str, str], path: str) -> bytes:
    """The request with a chunked body, as a proxy may forward it."""
    half = len(raw) // 2
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (raw[:half], raw[half:]) if part
    )
    lines = dict(headers) | {"Transfer-Encoding": "chunked", "Host": "bridge"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + chunks + b"0\r\n\r\n"


def misplaced(
    webhook: Webhook, answer: Answer, found: Mapping[bytes, Sequence[tuple[str, bytes | None]]]
) -> str:
    """What is wrong with the answer to a webhook or with its records; empty when nothing is.

    `found` has the topic and the key of the records with its value.
    """
    if answer.status not in webhook.statuses:
        return f"answered {answer.status} instead of {set(webhook.statuses)}"
    places = found.get(webhook.value, ())
    allowed: dict[str, set[str | None]] = {
        "kept": {"events", "dead-letter"},
        "anywhere": {"events", "grants", "dead-letter"},
        "unread": {"dead-letter", None},
    }
    wanted = allowed.get(webhook.topic or "", {webhook.topic})
    if len(places) > 1:
        return f"has {len(places)} records: {places}"
    topic, key = places[0] if places else (None, None)
    if topic not in wanted:
        return f"is in {topic} instead of {wanted}"
    if webhook.key is not None and key != webhook.key:
        return f"has the key {key!r} instead of {webhook.key!r}"
    return ""
