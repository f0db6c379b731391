"""Which Account the Contacts of a mail domain belong to: evidence for new people of the domain.

Where nearly all Contacts with addresses of a domain belong to one Account, the domain does too,
though nobody typed it into the Account. Plain functions over rows; `contact_domain_loading` reads
them once a day. A lookup never searches for the domain itself: `LIKE '%@acme.com'` would make every
batch search the whole object.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connectors.salesforce.account_rules import AccountRules
from connectors.salesforce.account_table import ID_LENGTH
from connectors.salesforce.domains import ascii_host, is_free_mail, registrable_domain
from connectors.salesforce.emails import domain, normalise
from connectors.salesforce.org_fields import EMAIL_FIELDS, PERSON_ACCOUNT_FIELD

# Fewer Contacts prove nothing: two colleagues of a customer may work for one of its suppliers.
MIN_CONTACTS = 5
# Pairs of a domain and an Account while the Contacts are counted, of 0.2 kB each, and domains that
# are kept, of 0.2 kB each. What comes beyond is not counted, so that it leads to no Account.
MAX_PAIRS = 300_000
MAX_DOMAINS = 100_000
# At half and below, two Accounts could have the share at once.
LEAST_SHARE = 0.5


class ContactDomain(NamedTuple):
    """A mail domain and the Account of its Contacts; without an Account it leads nowhere.

    `contacts` of the `of` Contacts with an address of the domain belong to the Account.
    """

    domain: str
    account_id: str = ""
    contacts: int = 0
    of: int = 0


def contact_query(rules: AccountRules, *, person_accounts: bool) -> tuple[str, tuple[str, ...]]:
    """The statement for all Contacts with an address and an Account, and its fields in order.

    Not aggregated: SOQL cannot group by a part of a field, and a bulk query groups by nothing [Bulk
    API 2.0 Developer Guide, "Understanding Bulk API 2.0 Query"].
    """
    fields = (EMAIL_FIELDS[0], "AccountId", *(f"Account.{path}" for path in rules.conditions))
    condition = f"{EMAIL_FIELDS[0]} != null AND AccountId != null"
    if person_accounts:
        condition += f" AND {PERSON_ACCOUNT_FIELD} = false"
    return f"SELECT {', '.join(fields)} FROM Contact WHERE {condition}", fields  # noqa: S608


@dataclass(slots=True)
class DomainCounts:
    """Counts Contacts by the domain of their address and by their Account, in bounded memory."""

    rules: AccountRules
    uncounted: int = 0
    """Contacts that had no room."""
    _counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _pairs: int = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes rows of a `contact_query`, of a page or of a bulk query."""
        for row in rows:
            account_id, host = row.get("AccountId"), _host(row.get(EMAIL_FIELDS[0]))
            if host is None or not isinstance(account_id, str) or len(account_id) != ID_LENGTH:
                continue
            counted = account_id if self.rules.counts(_account_of(row, self.rules)) else ""
            accounts = self._counts.get(host)
            if accounts is None or counted not in accounts:
                if self._pairs >= MAX_PAIRS:
                    self.uncounted += 1
                    continue
                self._pairs += 1
            self._counts[host][counted] += 1

    def domains(self, share: float) -> dict[str, ContactDomain]:
        """The domains of which at least `share` of the Contacts belong to one Account.

        Contacts of Accounts that the filter leaves out count as Contacts of another Account. Of
        more than MAX_DOMAINS, those with the most Contacts.
        """
        found = []
        for host, accounts in self._counts.items():
            (account_id, contacts), total = accounts.most_common(1)[0], accounts.total()
            if account_id and contacts >= MIN_CONTACTS and contacts >= share * total:
                found.append(ContactDomain(host, account_id, contacts, total))
        found.sort(key=lambda one: -one.contacts)
        return {one.domain: one for one in found[:MAX_DOMAINS]}


def _host(address: object) -> str | None:
    """The domain of an address; None for no address, and for free mail."""
    valid = normalise(address) if isinstance(address, str) else None
    host = ascii_host(domain(valid)) if valid else ""
    return host if host and registrable_domain(host) and not is_free_mail(host) else None


def _account_of(row: Mapping[str, Any], rules: AccountRules) -> Mapping[str, Any]:
    """The Account of a row as the filter reads it: a query nests it, a bulk query names paths."""
    nested = row.get("Account")
    if isinstance(nested, Mapping):
        return nested
    return {path: row.get(f"Account.{path}") for path in rules.conditions}


def changed_domains(
    before: Mapping[str, ContactDomain], after: Mapping[str, ContactDomain]
) -> list[ContactDomain]:
    """What a store has to be told: new and changed domains, and those that lead nowhere now."""
    new = [one for name, one in after.items() if before.get(name) != one]
    return new + [ContactDomain(name) for name in before if name not in after]
