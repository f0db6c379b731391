"""The directory of the org's Accounts: which Account a mail domain belongs to, and why.

The rules, for the domain of an address:

1. It is asked for itself first, then the domains above it, down to the registrable domain. At each
   of them an Account whose website is there wins, then one whose fields of the org's own name it,
   then a configured domain.
2. Of several Accounts with one website: one without a parent, then the oldest. Of several whose
   fields name one domain, one that names it before its other domains comes first.
3. If no Account is there, and the websites below the domain are all one host, its Account wins:
   people of acme.com belong to the Account of portal.acme.com.
4. Everything else is a conflict: people of dmv.ca.gov do not belong to dot.ca.gov, and people of
   ca.gov to neither of two agencies. A conflict names no Account.
5. Where none of these finds an Account, the Account of nearly all Contacts of exactly this domain
   wins, if that is known (see `contact_domains`).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connectors.salesforce.account_rules import (
    MAX_FURTHER_HOSTS,
    NO_RULES,
    AccountEvidence,
    AccountRules,
)
from connectors.salesforce.account_table import (
    ID_LENGTH,
    SIGNIFICANT_ID_LENGTH,
    AccountRow,
    AccountTable,
)
from connectors.salesforce.contact_domains import ContactDomain
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


def account_row(
    fields: Mapping[str, Any], generation: int = 0, rules: AccountRules = NO_RULES
) -> AccountRow | None:
    """The row of an Account as a query or a bulk query returns it; None without a usable ID.

    A person account has no host, because its website is that of a person. Neither has an Account
    that the filter of `rules` leaves out.
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
    if gone or not rules.counts(fields):
        return AccountRow(account_id, generation=generation)
    found = website_host(fields.get("Website"))
    further = rules.further_hosts(fields)
    if found is None and not further:
        return AccountRow(account_id, generation=generation)
    created = "".join(filter(str.isdecimal, str(fields.get("CreatedDate") or "")))
    return AccountRow(
        account_id,
        found.host if found else "",
        len(found.registrable) if found else 0,
        bool(fields.get("ParentId")),
        int(created[:_CREATED_DIGITS].ljust(_CREATED_DIGITS, "0")),
        generation,
        further,
    )


class AccountMatch(NamedTuple):
    """The Account of a mail domain; `conflict` if several could be it, and none is named.

    `by` says why it is that Account, where there is one.
    """

    account_id: str | None
    conflict: bool = False
    by: AccountEvidence | None = None


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
        self._clear_tables()
        self.contact_domains: dict[str, ContactDomain] = {}
        """By domain: the Account of nearly all its Contacts; see `update_contact_domains`."""
        # By the first 15 characters of an ID, oldest first: the whole ID where it was known.
        self._gone: dict[str, str | None] = {}
        # What `find` has found since the last change.
        self._found: dict[str, AccountMatch] = {}
        self.state = object()
        """Another object after every change: what was found in one state is true in that state."""

    def _clear_tables(self) -> None:
        # Of the domains that the org's own fields name, the first of each Account is in the first
        # table, and so on.
        self._websites = AccountTable()
        self._further = [AccountTable() for _ in range(MAX_FURTHER_HOSTS)]

    @property
    def _tables(self) -> tuple[AccountTable, ...]:
        return (self._websites, *self._further)

    def __len__(self) -> int:
        """The number of Accounts with a website."""
        return len(self._websites)

    @property
    def shared_hosts(self) -> int:
        """The number of hosts that are the website of several Accounts."""
        return self._websites.shared_hosts

    @property
    def gone(self) -> tuple[str, ...]:
        """IDs, of 15 characters, of the Accounts that `forget` removed and no row showed since."""
        return tuple(self._gone)

    def changed(self, rows: Iterable[AccountRow]) -> list[AccountRow]:
        """The rows that `update` would change anything for."""
        return [
            row
            for row in rows
            if row.id[:SIGNIFICANT_ID_LENGTH] in self._gone or not self._holds(row)
        ]

    def _holds(self, row: AccountRow) -> bool:
        return all(table.holds(part) for table, part in self._parts(row))

    def _parts(self, row: AccountRow) -> Iterator[tuple[AccountTable, AccountRow]]:
        """The row as each table holds it. Tables that it does not concern are left out."""
        yield self._websites, row
        for place, table in enumerate(self._further):
            if place < len(row.further_hosts):
                host = row.further_hosts[place]
                length = len(registrable_domain(host) or host)
                yield table, row._replace(host=host, domain_length=length)
            elif len(table):
                yield table, AccountRow(row.id)

    def update(self, rows: Iterable[AccountRow]) -> None:
        """Takes what is known of Accounts; a row without a host removes its Account."""
        self._changes()
        for row in rows:
            for table, part in self._parts(row):
                if part.host:
                    table.put(part)
                else:
                    table.remove(row.id)
            self._gone.pop(row.id[:SIGNIFICANT_ID_LENGTH], None)

    def clear(self) -> None:
        """Forgets every Account, but not the configured domains."""
        self._clear_tables()
        self.contact_domains.clear()
        self._changes()

    def _changes(self) -> None:
        self._found.clear()
        self.state = object()

    def update_contact_domains(self, domains: Iterable[ContactDomain]) -> None:
        """Takes the Accounts of Contacts' domains; one without an Account leads nowhere."""
        self._changes()
        for one in domains:
            if one.account_id:
                self.contact_domains[one.domain] = one
            else:
                self.contact_domains.pop(one.domain, None)

    def forget(self, account_id: str) -> None:
        """Removes an Account that a refused row reported as deleted or purged.

        No domain leads to it until a row shows it again.
        """
        known = (full for table in self._tables if (full := table.full_id(account_id)))
        self._gone[account_id[:SIGNIFICANT_ID_LENGTH]] = next(known, None)
        for table in self._tables:
            table.remove(account_id)
        self._changes()
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
        ids = dict.fromkeys(
            account_id
            for table in self._tables
            for account_id in table.ids_of_other_generations(generation, start, count)
        )
        return [AccountRow(account_id) for account_id in ids]

    @property
    def places(self) -> int:
        """How many places `of_other_generations` has to look at."""
        return max(table.slots for table in self._tables)

    def account_of(self, mail_domain: str) -> str | None:
        """The ID of the Account of a mail domain; None if it has none, or is free mail."""
        return self.find(mail_domain).account_id

    def find(self, mail_domain: str) -> AccountMatch:
        """The Account of a mail domain, and whether there is none because of a conflict."""
        found = self._found.get(mail_domain)
        if found is None:
            found = self._find_shared(mail_domain)
            if found.account_id is None:
                found = self._by_contacts(mail_domain) or found
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            self._found[mail_domain] = found
        return found

    def _by_contacts(self, mail_domain: str) -> AccountMatch | None:
        known = self.contact_domains.get(ascii_host(mail_domain))
        if known is None or is_free_mail(mail_domain):
            return None
        if known.account_id[:SIGNIFICANT_ID_LENGTH] in self._gone:
            return None
        return AccountMatch(known.account_id, by=AccountEvidence.CONTACTS)

    def _find_shared(self, mail_domain: str) -> AccountMatch:
        if is_free_mail(mail_domain):
            return _NO_ACCOUNT
        found = self._find(ascii_host(mail_domain))
        if found.account_id is None or "." not in found.account_id:
            return found
        # The domain whose Account a configured one shares. Only an Account ends the search there.
        shared = self._find(ascii_host(found.account_id))
        if shared.account_id is None or "." in shared.account_id:
            return shared if shared.conflict else _NO_ACCOUNT
        return shared._replace(by=AccountEvidence.SETTING)

    def _find(self, host: str) -> AccountMatch:
        """As `find`; `account_id` is a domain where a configured one leads to it."""
        domain = registrable_domain(host)
        if domain is None:
            return _NO_ACCOUNT
        hosts = _host_and_parents(host, domain)
        for one, account_id, named in zip(
            hosts,
            self._best_at([self._websites], domain, hosts),
            self._best_at(self._further, domain, hosts),
            strict=True,
        ):
            if account_id:
                return AccountMatch(account_id, by=AccountEvidence.WEBSITE)
            if named:
                return AccountMatch(named, by=AccountEvidence.DOMAIN_FIELD)
            if target := self._configured_target(one):
                return AccountMatch(target, by=AccountEvidence.SETTING)
        if not self._websites.has_domain(domain):
            return _NO_ACCOUNT
        below = self._websites.only_host_below(domain, host)
        if below is None:
            return AccountMatch(None, conflict=True)
        only = self._websites.best_at(domain, [below])[0]
        return AccountMatch(only, by=AccountEvidence.WEBSITE)

    def _best_at(
        self, tables: Iterable[AccountTable], domain: str, hosts: list[str]
    ) -> list[str | None]:
        """The Account of each host in the first of the tables that has one."""
        best: list[str | None] = [None] * len(hosts)
        for table in tables:
            if table.has_domain(domain):
                found = table.best_at(domain, hosts)
                best = [old or new for old, new in zip(best, found, strict=True)]
        return best

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
