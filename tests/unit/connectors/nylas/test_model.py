import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.nylas.errors import UNREADABLE, UnreadableBody
from connectors.nylas.model import contact_key, parse_json, parse_notification


def envelope(**changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "contact.updated",
        "source": "/google/contacts/incremental",
        "id": "notification-1",
        "time": 1723821985,
        "webhook_delivery_attempt": 1,
        "data": {
            "application_id": "app",
            "object": {"grant_id": "g1", "id": "c1", "given_name": "John"},
        },
    } | changes


def with_object(subject: Any, **changes: Any) -> dict[str, Any]:
    return envelope(data={"application_id": "app", "object": subject}, **changes)


def reason_of(raw: bytes) -> str:
    with pytest.raises(UnreadableBody) as caught:
        parse_notification(raw)
    return caught.value.reason


def test_a_notification_is_read_as_nylas_documents_it() -> None:
    found = parse_notification(orjson.dumps(envelope()))
    assert (found.id, found.type, found.time) == ("notification-1", "contact.updated", 1723821985)
    assert (found.source, found.application_id) == ("/google/contacts/incremental", "app")
    assert found.object["given_name"] == "John"


def test_unknown_fields_and_types_are_no_fault() -> None:
    found = parse_notification(
        orjson.dumps(envelope(type="message.created", metric={"x": 1}, subject=None))
    )
    assert found.type == "message.created"


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("contact.updated", "contact"),
        ("contact.", "contact"),
        ("grant.new.thing", "grant"),
        ("contact", ""),
        ("grant", ""),
        (".contact", ""),
        ("contacts.updated", ""),
        ("Contact.updated", ""),
    ],
)
def test_a_type_belongs_to_a_family_only_with_its_dot_and_only_then_its_ids_are_demanded(
    kind: str, family: str
) -> None:
    assert parse_notification(orjson.dumps(envelope(type=kind))).family == family
    nameless = orjson.dumps(with_object({}, type=kind))
    if family:
        assert reason_of(nameless) == "no_grant_id"
    else:
        assert parse_notification(nameless).family == ""


@pytest.mark.parametrize(
    "missing", ["webhook_delivery_attempt", "time", "id", "source", "specversion"]
)
def test_what_the_schema_does_not_promise_may_be_missing(missing: str) -> None:
    body = envelope()
    del body[missing]
    found = parse_notification(orjson.dumps(body))
    assert found.object["id"] == "c1"
    assert found.id
    assert found.time == (None if missing == "time" else 1723821985)


@pytest.mark.parametrize(
    ("attempt", "last"),
    [(1, False), (2, False), (3, True), (4, True), (None, False), ("3", False), (True, False)],
)
def test_the_last_attempt_is_known_by_its_number(attempt: object, last: bool) -> None:
    assert (
        parse_notification(orjson.dumps(envelope(webhook_delivery_attempt=attempt))).last_attempt
        is last
    )


def test_a_derived_id_is_the_same_for_every_attempt_and_another_for_another_content() -> None:
    def derived(**changes: Any) -> str:
        body = envelope(**changes)
        del body["id"]
        return parse_notification(orjson.dumps(body)).id

    assert derived(webhook_delivery_attempt=1) == derived(webhook_delivery_attempt=3)
    assert derived(time=1) != derived(time=2)


@pytest.mark.parametrize(
    ("given_time", "read"),
    [
        (1723821985, 1723821985),
        (1723821985.0, 1723821985),
        (1723821985.5, None),
        ("1723821985", None),
        (True, None),
        (None, None),
        (0, None),
        (-5, None),
        (1723821985000, None),
        (10**30, None),
    ],
)
def test_only_a_plausible_time_in_seconds_is_believed(given_time: Any, read: int | None) -> None:
    assert parse_notification(json.dumps(envelope(time=given_time)).encode()).time == read


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b"[Infinity]", "not_json"),
        (b"[1e999]", "not_json"),
        (b"[1e999, 1e999, 1e999, 1e999, 1e999, 1e999, 1e999, 1e999, 1e999, 1e999", "not_json"),
        (b'{"a": 1} {"b": 2}', "not_json"),
        (b"9" * 5000, "not_json"),
        (b"null", "not_an_envelope"),
        (b"[]", "not_an_envelope"),
        (b'"text"', "not_an_envelope"),
        (b"{}", "not_an_envelope"),
        (b'{"type": 5, "data": {"object": {}}}', "not_an_envelope"),
        (b'{"type": "contact.updated"}', "no_object"),
        (b'{"type": "contact.updated", "data": []}', "no_object"),
        (b'{"type": "contact.updated", "data": {}}', "no_object"),
        (b'{"type": "contact.updated", "data": {"object": [1]}}', "no_object"),
        (b'{"type": "contact.updated", "data": {"object": {"id": "c"}}}', "no_grant_id"),
        (
            b'{"type": "contact.updated", "data": {"object": {"grant_id": "", "id": "c"}}}',
            "no_grant_id",
        ),
        (
            b'{"type": "contact.updated", "data": {"object": {"grant_id": "a/b", "id": "c"}}}',
            "no_grant_id",
        ),
        (b'{"type": "contact.updated", "data": {"object": {"grant_id": "g"}}}', "no_contact_id"),
        (
            b'{"type": "contact.deleted", "data": {"object": {"grant_id": "g", "id": 17}}}',
            "no_contact_id",
        ),
        (
            b'{"type": "contact.updated", "data": {"object": {"grant_id": "g", "id": '
            b'"a\\u0000b"}}}',
            "no_contact_id",
        ),
        (
            b'{"type": "contact.updated", "data": {"object": {"grant_id": "g", "id": "a\\ud800"}}}',
            "no_contact_id",
        ),
        (
            b'{"type": "contact.updated", "data": {"object": {"grant_id": "\\udc00", "id": "c"}}}',
            "no_grant_id",
        ),
        (b'{"type": "grant.expired", "data": {"object": {"code": 25009}}}', "no_grant_id"),
    ],
)
def test_an_unreadable_body_says_why_in_a_closed_set_of_words(raw: bytes, reason: str) -> None:
    assert reason in UNREADABLE
    assert reason_of(raw) == reason


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_unreadable_and_no_recursion_error(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"1}"
    assert reason_of(opening * 10_000 + closing * 10_000) == "not_json"
    assert reason_of(opening * 10_000) == "not_json"


@given(st.integers(0, 1100), st.sampled_from(["1", r'"\ud800"']))
def test_nesting_is_read_within_a_bound_that_every_later_reader_shares(
    depth: int, leaf: str
) -> None:
    deep = "[" * depth + leaf + "]" * depth
    raw = orjson.dumps(with_object({"grant_id": "g", "id": "c", "notes": "@"})).replace(
        b'"@"', deep.encode()
    )
    raw = raw.replace(b'"id":"notification-1",', b"")
    try:
        found = parse_notification(raw)
    except UnreadableBody:
        assert depth > 300
        return
    orjson.loads(raw.replace(rb"\ud800", b""))
    assert found.id.startswith("derived-")


def test_many_brackets_that_do_not_nest_are_no_depth() -> None:
    emails = [{"email": f"{n}@example.com"} for n in range(5000)]
    assert (
        len(
            parse_notification(
                orjson.dumps(with_object({"grant_id": "g", "id": "c", "emails": emails}))
            ).object
        )
        == 3
    )


def test_a_lone_surrogate_in_a_note_does_not_lose_the_contact() -> None:
    raw = (
        rb'{"type":"contact.updated","data":{"object":{"grant_id":"g","id":"c",'
        rb'"notes":"a\ud800b","\udfff":["\ud83d\ude00"]}}}'
    )
    found = parse_notification(raw)
    assert found.object["notes"] == "a\ufffdb"
    assert found.object["\ufffd"] == ["😀"]
    orjson.dumps(found.object)


def test_surrogates_as_bytes_and_a_byte_order_mark_are_tolerated() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a":"\xed\xa0\x80"}') == {"a": "\ufffd"}


def test_a_huge_integer_beside_a_surrogate_can_be_written_again() -> None:
    assert orjson.dumps(parse_json(rb'["\ud800", 123456789012345678901234567890]'))


def test_a_contact_whose_arrays_are_all_null_is_read() -> None:
    arrays = (
        "emails",
        "groups",
        "im_addresses",
        "phone_numbers",
        "physical_addresses",
        "web_pages",
    )
    subject = {"grant_id": "g", "id": "c"} | dict.fromkeys(arrays)
    assert parse_notification(orjson.dumps(with_object(subject))).object == subject


@pytest.mark.parametrize(
    "identity", ["a/b#c d", "Ünï/😀", "AAMkAD=", "c1", "C1", " c ", "a\tb", "a\\b", '"', "../.."]
)
def test_contact_ids_survive_as_they_are(identity: str) -> None:
    found = parse_notification(orjson.dumps(with_object({"grant_id": "g", "id": identity})))
    assert found.object["id"] == identity
    assert contact_key("g", identity).partition("/") == ("g", "/", identity)


usable = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffd"),
    min_size=1,
    max_size=60,
)


@given(
    usable.filter(lambda text: "/" not in text),
    usable,
    usable.filter(lambda text: "/" not in text),
    usable,
)
def test_two_contacts_never_share_a_key(
    grant: str, contact: str, other_grant: str, other: str
) -> None:
    same = contact_key(grant, contact) == contact_key(other_grant, other)
    assert same == ((grant, contact) == (other_grant, other))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_unreadable(raw: bytes) -> None:
    for parse in (parse_json, parse_notification):
        _read_or_unreadable(parse, raw)


@given(
    st.dictionaries(st.sampled_from(["type", "id", "time", "data", "source"]), json_values),
    json_values,
    json_values,
)
def test_any_envelope_is_read_or_unreadable(
    changes: dict[str, Any], grant: Any, contact: Any
) -> None:
    body = with_object({"grant_id": grant, "id": contact}) | changes
    _read_or_unreadable(parse_notification, json.dumps(body).encode())


def _read_or_unreadable(parse: Callable[[bytes], Any], raw: bytes) -> None:
    try:
        found = parse(raw)
    except UnreadableBody:
        return
    if parse is parse_notification and found.type.startswith("contact."):
        contact_key(found.object["grant_id"], found.object["id"]).encode()


@given(json_values)
def test_what_json_can_write_is_read_the_same_but_for_surrogates(value: Any) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    try:
        found = parse_json(raw)
    except UnreadableBody:
        assert b"NaN" in raw or b"Infinity" in raw
    else:
        assert orjson.loads(orjson.dumps(found)) == found
