"""Own domains by the addresses of the grants: which, since when, and for whom they count."""

import pytest

from connectors.salesforce.exclusions import Exclusions
from connectors.salesforce.kept_fields import exclusion_by
from connectors.salesforce.policy import Policy
from connectors.salesforce.skip_reasons import SkipReason
from streams.control import ControlTable
from streams.dedupe.mailbox_filter import MailboxFilter
from streams.grant_addresses import GrantAddress, address_record
from streams.kafka.records import KafkaRecord
from streams.mailboxes import EVERY_MAILBOX, MailboxRule, Why
from streams.org import policy
from streams.own_domains import OwnDomains, derived, own_domain, own_domains_record
from streams.settings import KafkaSettings, PeopleSettings, SalesforceSettings, SettingsError, load
from streams.topics import topics

TOPICS = topics(load(KafkaSettings, {}))


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("Ada@Acme.com", "acme.com"),
        ("ada@eu.acme.com", "eu.acme.com"),
        ("ada@gmail.com", ""),
        ("ada@t-online.de", ""),
        ("", ""),
        ("no address", ""),
    ],
)
def test_the_domain_of_an_address_is_own_unless_it_names_no_company(address: str, own: str) -> None:
    assert own_domain(address) == own


def test_a_domain_keeps_its_time_and_stays_without_its_mailbox() -> None:
    first = derived(OwnDomains(), ["ada@acme.com", "bob@gmail.com"], 1)
    assert first.since_ms == {"acme.com": 1}
    assert derived(first, ["eve@acme.io"], 2).since_ms == {"acme.com": 1, "acme.io": 2}


def test_the_record_carries_them_and_its_tombstone_ends_them() -> None:
    table, own = ControlTable(), OwnDomains({"acme.com": 7})
    table.apply(own_domains_record(TOPICS, own))
    assert table.own_domains == own
    unreadable = own_domains_record(TOPICS, own)
    for value in (b'{"schema": 2}', b'{"schema": 1, "since_ms": []}'):
        table.apply(KafkaRecord(unreadable.topic, unreadable.key, value, []))
    assert table.own_domains == own, "what cannot be read changes nothing"
    table.apply(own_domains_record(TOPICS, None))
    assert table.own_domains is None


def filtered(derives: bool = True, *domains: str) -> MailboxFilter:
    """Dedupe's filter after the reader has put these domains in force."""
    found = MailboxFilter(EVERY_MAILBOX, derives)
    found.control.apply(own_domains_record(TOPICS, OwnDomains(dict.fromkeys(domains, 1))))
    return found


def test_a_contact_waits_for_its_grants_address_and_then_its_domain_counts_at_once() -> None:
    selected = filtered(True, "acme.io")
    assert selected.choose("new").why is Why.ADDRESS_UNKNOWN
    selected.addresses.apply(address_record(TOPICS, GrantAddress("new", "a@acme.com", ""), 1))
    assert selected.choose("new").selected
    assert selected.own_domains("new/c") == {"acme.io", "acme.com"}
    assert selected.own_domains("other/c") == {"acme.io"}


def test_the_address_that_a_page_names_counts_until_the_record_of_its_grant_is_followed() -> None:
    selected = filtered(True)
    selected.note_address("new", "A@Acme.com")
    assert selected.choose("new").selected
    assert selected.own_domains("new/c") == {"acme.com"}
    selected.addresses.apply(address_record(TOPICS, GrantAddress("new", "a@acme.io", ""), 1))
    selected.note_address("new", "A@Acme.com")
    assert selected.own_domains("new/c") == {"acme.io"}


def test_a_mailbox_is_selected_by_the_address_that_a_page_names() -> None:
    selected = MailboxFilter(MailboxRule(("*@acme.com",)))
    assert selected.choose("new").why is Why.ADDRESS_UNKNOWN
    selected.note_address("new", "A@Acme.com")
    selected.note_address("other", "a@other.example")
    assert selected.choose("new").selected
    assert selected.choose("other").why is Why.NO_ENTRY


def test_nothing_is_derived_before_the_reader_does_or_where_the_setting_names_domains() -> None:
    for selected in (MailboxFilter(EVERY_MAILBOX, True), filtered(False, "acme.io")):
        assert selected.choose("g").selected
        assert selected.own_domains("g/c") == frozenset()


def test_whoever_has_an_address_at_a_derived_domain_is_left_out_as_a_colleague() -> None:
    own = filtered(True, "acme.io").own_domains
    exclusion = exclusion_by(Policy(exclusions=Exclusions()), own)

    def reason(*addresses: str) -> SkipReason | None:
        return exclusion("g/c", {"emails": [{"email": address} for address in addresses]})

    assert reason("bob@eu.acme.io") is SkipReason.OWN_DOMAIN
    assert reason("bob@other.example", "bob@acme.io") is SkipReason.OWN_DOMAIN
    assert reason("bob@notacme.io") is None


def test_the_setting_none_switches_it_off_and_stands_alone() -> None:
    people = load(PeopleSettings, {"PEOPLE_OWN_DOMAINS": "none"})
    assert not people.derives_own_domains
    allowed = policy(load(SalesforceSettings, {}), people, ["address_book"])
    assert allowed.exclusions.own_domains == frozenset()
    assert load(PeopleSettings, {}).derives_own_domains
    for value in ("none, acme.com", "None"):
        with pytest.raises(SettingsError, match="`none` stands alone"):
            load(PeopleSettings, {"PEOPLE_OWN_DOMAINS": value})
