"""Which requests the console answers, and what the person behind one may do."""

import ipaddress
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.console.access import (
    Gatekeeper,
    Person,
    Role,
    arrived_encrypted,
    comes_from_our_page,
    gatekeeper,
    host_is_known,
    is_loopback,
    person_of,
    require_own_port,
    session_of,
)
from streams.settings import ConsoleSettings, SettingsError, load

TOKEN = "0123456789abcdef0123"
PROXIED = {
    "CONSOLE_IDENTITY_HEADER": "X-Forwarded-User",
    "CONSOLE_TRUSTED_PROXIES": "10.1.0.0/16",
    "CONSOLE_ACTORS": "ada@acme.example",
}


def keeper(token: str = "", **environ: str) -> Gatekeeper:
    return gatekeeper(load(ConsoleSettings, environ), token, "ada@desk", 8765)


@pytest.mark.parametrize(
    ("environ", "token", "message"),
    [
        ({"CONSOLE_LISTEN": "0.0.0.0:8765"}, "", "can be reached from other machines"),
        ({"CONSOLE_LISTEN": "10.0.0.7:8765"}, "", "can be reached from other machines"),
        ({}, "short", "has 5 characters and needs 16"),
        ({"CONSOLE_IDENTITY_HEADER": "X-User"}, "", "anybody could claim to be anybody"),
        (
            {"CONSOLE_IDENTITY_HEADER": "X-User", "CONSOLE_TRUSTED_PROXIES": "proxy"},
            "",
            "CONSOLE_TRUSTED_PROXIES=proxy is no address",
        ),
    ],
)
def test_a_page_that_anybody_could_open_is_refused_with_the_remedy(
    environ: Mapping[str, str], token: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        keeper(token, **environ)


@pytest.mark.parametrize(
    ("listen", "other"),
    [
        ("127.0.0.1:8080", {"BRIDGE_LISTEN": "0.0.0.0:8080"}),
        ("0.0.0.0:08080", {"BRIDGE_LISTEN": "10.0.0.7:8080"}),
        ("[::1]:9100", {"OPS_LISTEN": "0.0.0.0:9100"}),
    ],
)
def test_the_port_of_another_server_is_refused_by_the_names_of_both_settings(
    listen: str, other: Mapping[str, str]
) -> None:
    ((name, address),) = other.items()
    with pytest.raises(SettingsError) as refused:
        require_own_port(listen, {"BRIDGE_LISTEN": "", "OPS_LISTEN": ""} | dict(other))
    assert f"CONSOLE_LISTEN={listen}" in str(refused.value)
    assert f"{name}={address}" in str(refused.value)
    assert "another port" in str(refused.value)


def test_a_port_of_its_own_and_any_free_port_are_taken() -> None:
    require_own_port("127.0.0.1:8765", {"BRIDGE_LISTEN": "0.0.0.0:8080"})
    require_own_port("127.0.0.1:0", {"BRIDGE_LISTEN": "127.0.0.1:0"})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.0.1"])
def test_only_this_machine_connects_to_loopback(host: str) -> None:
    assert is_loopback(host)


def test_on_this_machine_the_user_of_the_system_acts() -> None:
    assert person_of(keeper(), "127.0.0.1", {}, "") == Person(Role.ACT, "ada@desk")


def test_where_a_token_is_set_nothing_is_shown_without_it() -> None:
    rules = keeper(TOKEN, CONSOLE_LISTEN="0.0.0.0:8765")
    assert person_of(rules, "10.0.0.9", {}, "").role is Role.NOBODY
    assert (
        person_of(rules, "10.0.0.9", {}, session_of("another token of someone")).may_read is False
    )
    assert person_of(rules, "10.0.0.9", {}, session_of(TOKEN)) == Person(Role.ACT, "ada@desk")


def test_an_identity_counts_only_from_the_proxy_and_acts_only_if_it_is_listed() -> None:
    rules = keeper(TOKEN, **PROXIED)
    ada, bob = {"X-Forwarded-User": "ada@acme.example"}, {"X-Forwarded-User": "bob@acme.example"}
    assert person_of(rules, "10.1.4.2", ada, "") == Person(Role.ACT, "ada@acme.example")
    assert person_of(rules, "::ffff:10.1.4.2", ada, "").may_act
    assert person_of(rules, "10.1.4.2", bob, "") == Person(Role.READ, "bob@acme.example")
    assert person_of(rules, "10.2.0.1", ada, "").role is Role.NOBODY
    # The shared token names nobody, so that it reads only.
    assert person_of(rules, "10.2.0.1", ada, session_of(TOKEN)).role is Role.READ


def test_without_a_token_only_whom_the_proxy_names_gets_in() -> None:
    rules = keeper("", **PROXIED, CONSOLE_LISTEN="0.0.0.0:8765")
    assert person_of(rules, "10.1.0.1", {}, "").role is Role.NOBODY
    assert person_of(rules, "10.1.0.1", {"X-Forwarded-User": "  "}, "").role is Role.NOBODY


@given(st.ip_addresses(), st.text(max_size=300))
def test_nobody_acts_from_outside_of_the_proxies(
    remote: ipaddress.IPv4Address | ipaddress.IPv6Address, name: str
) -> None:
    rules = keeper(TOKEN, **PROXIED | {"CONSOLE_ACTORS": "*"})
    person = person_of(rules, str(remote), {"X-Forwarded-User": name}, "")
    mapped = getattr(remote, "ipv4_mapped", None) or remote
    inside = mapped in ipaddress.ip_network("10.1.0.0/16")
    assert inside or person.role is Role.NOBODY
    assert not person.may_act or person.name.isprintable()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8765", True),
        ("LOCALHOST:8765", True),
        ("[::1]:8765", True),
        ("console.acme.example", True),
        ("127.0.0.1", False),
        ("127.0.0.1:9999", False),
        ("evil.example:8765", False),
        ("localhost:8765.evil.example", False),
        ("", False),
    ],
)
def test_a_name_that_was_pointed_here_by_others_is_refused(host: str, known: bool) -> None:
    rules = keeper(CONSOLE_HOSTS="Console.Acme.Example")
    assert host_is_known(host, rules.hosts) is known


OURS = "http://127.0.0.1:8765"


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": OURS}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": OURS}, True),
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[broken"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": OURS}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OURS}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:8766"}, False),
    ],
)
def test_only_our_own_page_changes_anything(headers: Mapping[str, str], ours: bool) -> None:
    assert comes_from_our_page(headers, keeper().hosts) is ours


def test_only_the_proxy_says_that_the_browser_speaks_https() -> None:
    rules = keeper(TOKEN, **PROXIED)
    assert arrived_encrypted(rules, "10.1.0.1", {"X-Forwarded-Proto": "https"})
    assert not arrived_encrypted(rules, "10.2.0.1", {"X-Forwarded-Proto": "https"})
    assert not arrived_encrypted(rules, "10.1.0.1", {"X-Forwarded-Proto": "http"})
