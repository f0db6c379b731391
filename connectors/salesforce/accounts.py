"""The directory of the org's Accounts: which Account a mail domain belongs to, by their Website.

The rules, for the domain of an address:

1. It is asked for itself first, then the domains above it, down to the registrable domain. At each
   of them an Account whose website is there wins, then a configured domain.
2. Of several Accounts with one website: one without a parent, then the oldest.
3. If no Account is there, and the websites below the domain are all one host, its Account wins:
   people of acme.com belong to the Account of portal.acme.com.
4. Everything else is a conflict: people of dmv.ca.gov do not belong to dot.ca.gov, and people of
   ca.gov to neither of two agencies. A conflict names no Account.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from connectors.salesforce.account_table import (
    ID_LENGTH,
    SIGNIFICANT_ID_LENGTH,
    AccountRow,
    AccountTable,
)
from connectors.salesforce.domains import (
    ascii_host,
    is_free_mail,
    registrable_domain,
    website_host,
)

# Accounts that rows reported as gone; more of them would fill the statement of the next refresh
_MAX_GONE = 200
# Mail domains whose Account is remembered; some 3 MB. They repeat from contact to contact.
_MAX_REMEMBERED = 20_000
_CREATED_DIGITS = 14
_TRUE = frozenset((True, "true"))


def account_row(fields: Mapping[str, Any], generation: int = 0) -> AccountRow | None:
    """The row of an Account as a query or a bulk query returns it; None without a usable ID.

    A person account has no host, because its website is that of a person.
    """
    account_id = fields.get("Id")
    if (
        not isinstance(account_id, str)
        or len(account_id) != ID_LENGTH
        or not account_id.isascii()
        or not account_id.isalnum()
    ):
        return None
    gone = fields.get("IsDeleted") in _TRUE or fields.get("IsPersonAccount") in _TRUE
    found = None if gone else website_host(fields.get("Website"))
    if found is None:
        return AccountRow(account_id, generation=generation)
    created = "".join(filter(str.isdecimal, str(fields.get("CreatedDate") or "")))
    return AccountRow(
        account_id,
        found.host,
        len(found.registrable),
        bool(fields.get("ParentId")),
        int(created[:_CREATED_DIGITS].ljust(_CREATED_DIGITS, "0")),
        generation,
    )


class AccountMatch(NamedTuple):
    """The Account of a mail domain; `conflict` if several could be it, and none is named."""

    account_id: str | None
    conflict: bool = False


_NO_ACCOUNT = AccountMatch(None)


class AccountDirectory:
    """The Account of each mail domain, by the rules of this module.

    `configured` maps further domains to an Account ID, or to the domain whose Account they share.
    """

    def __init__(self, configured: Mapping[str, str] | None = None) -> None:
        self._configured = {
            host: account.strip()
            for name, account in (configured or {}).items()
            if (host := ascii_host(name)) and registrable_domain(host) and not is_free_mail(host)
        }
        self._table = AccountTable()
        # By the first 15 characters of an ID, oldest first: the whole ID where it was known.
        self._gone: dict[str, str | None] = {}
        # What `find` has found since the last change.
        self._found: dict[str, AccountMatch] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def shared_hosts(self) -> int:
        """The number of hosts that are the website of several Accounts."""
        return self._table.shared_hosts

    @property
    def gone(self) -> tuple[str, ...]:
        """IDs, of 15 characters, of the Accounts that `forget` removed and no row showed since."""
        return tuple(self._gone)

    def changed(self, rows: Iterable[AccountRow]) -> list[AccountRow]:
        """The rows that `update` would change anything for."""
        return [
            row
            for row in rows
            if row.id[:SIGNIFICANT_ID_LENGTH] in self._gone or not self._table.holds(row)
        ]

    def update(self, rows: Iterable[AccountRow]) -> None:
        """Takes what is known of Accounts; a row without a host removes its Account."""
        self._found.clear()
        for row in rows:
            if row.host:
                self._table.put(row)
            else:
                self._table.remove(row.id)
            self._gone.pop(row.id[:SIGNIFICANT_ID_LENGTH], None)

    def clear(self) -> None:
        """Forgets every Account, but not the configured domains."""
        self._table = AccountTable()
        self._found.clear()

    def forget(self, account_id: str) -> None:
        """Removes an Account that a refused row reported as deleted or purged.

        No domain leads to it until a row shows it again.
        """
        self._gone[account_id[:SIGNIFICANT_ID_LENGTH]] = self._table.full_id(account_id)
        self._table.remove(account_id)
        self._found.clear()
        while len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def take_forgotten(self) -> list[AccountRow]:
        """Rows without a host, for Accounts that were known when `forget` removed them.

        Each is returned once.
        """
        rows = [AccountRow(account_id) for account_id in self._gone.values() if account_id]
        self._gone = dict.fromkeys(self._gone)
        return rows

    def of_other_generations(self, generation: int, start: int, count: int) -> list[AccountRow]:
        """Rows without a host, for known Accounts that a full load did not show.

        Looks at `count` places from `start` on; there are `places`.
        """
        ids = self._table.ids_of_other_generations(generation, start, count)
        return [AccountRow(account_id) for account_id in ids]

    @property
    def places(self) -> int:
        """How many places `of_other_generations` has to look at."""
        return self._table.slots

    def account_of(self, mail_domain: str) -> str | None:
        """The ID of the Account of a mail domain; None if it has none, or is free mail."""
        return self.find(mail_domain).account_id

    def find(self, mail_domain: str) -> AccountMatch:
        """The Account of a mail domain, and whether there is none because of a conflict."""
        found = self._found.get(mail_domain)
        if found is None:
            found = self._find_shared(mail_domain)
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            self._found[mail_domain] = found
        return found

    def _find_shared(self, mail_domain: str) -> AccountMatch:
        if is_free_mail(mail_domain):
            return _NO_ACCOUNT
        found = self._find(ascii_host(mail_domain))
        if found.account_id is None or "." not in found.account_id:
            return found
        # The domain whose Account a configured one shares. Only an Account ends the search there.
        shared = self._find(ascii_host(found.account_id))
        return _NO_ACCOUNT if "." in (shared.account_id or "") else shared

    def _find(self, host: str) -> AccountMatch:
        """As `find`; `account_id` is a domain where a configured one leads to it."""
        domain = registrable_domain(host)
        if domain is None:
            return _NO_ACCOUNT
        hosts = _host_and_parents(host, domain)
        known = self._table.has_domain(domain)
        accounts = self._table.best_at(domain, hosts) if known else [None] * len(hosts)
        for one, account_id in zip(hosts, accounts, strict=True):
            target = account_id or self._configured_target(one)
            if target:
                return AccountMatch(target)
        if not known:
            return _NO_ACCOUNT
        below = self._table.only_host_below(domain, host)
        if below is None:
            return AccountMatch(None, conflict=True)
        return AccountMatch(self._table.best_at(domain, [below])[0])

    def _configured_target(self, host: str) -> str | None:
        target = self._configured.get(host)
        if target and "." not in target and target[:SIGNIFICANT_ID_LENGTH] in self._gone:
            return None
        return target


def _host_and_parents(host: str, domain: str) -> list[str]:
    """A host, and those above it down to its registrable domain."""
    hosts = [host]
    while len(hosts[-1]) > len(domain):
        hosts.append(hosts[-1].partition(".")[2])
    return hosts
