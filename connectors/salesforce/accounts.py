"""The directory of the org's Accounts: which Account a mail domain belongs to, by their Website."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors.salesforce.api.composite import Subrequest
from connectors.salesforce.domains import is_free_mail, registrable_domain, website_domain

# A transaction may commit minutes after its SystemModstamp, so that a refresh goes back by this.
# Accounts that are read twice do no harm.
_REFRESH_OVERLAP = timedelta(minutes=10)
_FIELDS = ("Id", "Website", "ParentId", "CreatedDate", "SystemModstamp")
# without these, only their IDs decide between several Accounts of one domain
_DISPENSABLE_FIELDS = {"ParentId", "CreatedDate"}
# A field of Account and Contact that only orgs with Person Accounts have.
PERSON_ACCOUNT_FIELD = "IsPersonAccount"
# Accounts that rows reported as gone; more of them would fill the statement of the next refresh
_MAX_GONE = 200


@dataclass(frozen=True, slots=True)
class _Account:
    id: str
    domain: str
    # without a parent first, then the oldest; the ID decides between equals
    rank: tuple[bool, str, str]


class AccountDirectory:
    """The Account of each domain, fed with rows of the query that `request` makes.

    Of several Accounts with one domain: one without a parent, then the oldest. `configured` maps
    further domains to an Account ID, or to the domain whose Account they share.
    """

    def __init__(self, configured: Mapping[str, str] | None = None) -> None:
        self._configured = {
            domain: account.strip()
            for name, account in (configured or {}).items()
            if (domain := registrable_domain(name)) and not is_free_mail(domain)
        }
        self._accounts: dict[str, _Account] = {}
        self._domains: dict[str, list[_Account]] = {}
        self._last_request: datetime | None = None
        self._fields: tuple[str, ...] = _FIELDS
        self._gone: dict[str, None] = {}  # the first 15 characters of IDs, oldest first

    def __len__(self) -> int:
        return len(self._domains)

    @property
    def shared_domains(self) -> int:
        """The number of domains that several Accounts have."""
        return sum(len(accounts) > 1 for accounts in self._domains.values())

    def tell_person_accounts_apart(self) -> bool:
        """Asks of each Account whether it is a Person Account, which belongs to nobody else.

        To be called for an org in which they are on: another org refuses the field. True if the
        requests so far did not ask.
        """
        if PERSON_ACCOUNT_FIELD in self._fields:
            return False
        self._fields += (PERSON_ACCOUNT_FIELD,)
        return True

    def drop_fields(self, names: Iterable[str]) -> bool:
        """Leaves fields that are hidden from the user out of the next requests.

        False if that changes nothing: no such field is requested, or it cannot be done without.
        """
        kept = tuple(
            name for name in self._fields if name not in _DISPENSABLE_FIELDS.intersection(names)
        )
        changed, self._fields = len(kept) < len(self._fields), kept
        return changed

    def request(self, reference: str, now: datetime) -> Subrequest:
        """The query for all Accounts with a Website; after an `update`, for the changed ones.

        The changed ones include deleted Accounts, and Accounts that lost their Website. Accounts
        that `forget` removed are requested again, because they may be there after all.
        """
        fields = ", ".join(self._fields)
        if self._last_request is None:
            everything = f"SELECT {fields} FROM Account WHERE Website != null"  # noqa: S608
            return _query(everything, reference, deleted=False)
        since = (self._last_request - _REFRESH_OVERLAP).astimezone(UTC)
        gone = ",".join(f"'{account_id}'" for account_id in self._gone if account_id.isalnum())
        again = f" OR Id IN ({gone})" if gone else ""
        changed = (
            f"SELECT {fields}, IsDeleted FROM Account "  # noqa: S608
            f"WHERE SystemModstamp >= {since.strftime('%Y-%m-%dT%H:%M:%SZ')}{again}"
        )
        return _query(changed, reference, deleted=True)

    def update(self, rows: Iterable[Mapping[str, Any]], asked: datetime | None = None) -> None:
        """Takes the rows of a query for Accounts.

        `asked` is the time of its `request`, from which the next one continues.
        """
        self._last_request = asked or self._last_request
        for row in rows:
            account_id = row.get("Id")
            if not isinstance(account_id, str):
                continue
            self._remove(account_id)
            if row.get("IsDeleted") or row.get(PERSON_ACCOUNT_FIELD) is True:
                continue
            self._gone.pop(account_id[:15], None)
            if domain := website_domain(row.get("Website")):
                rank = (bool(row.get("ParentId")), str(row.get("CreatedDate") or ""), account_id)
                account = _Account(account_id, domain, rank)
                self._accounts[account_id] = account
                self._domains[domain] = sorted(
                    (*self._domains.get(domain, ()), account), key=lambda one: one.rank
                )

    def forget(self, account_id: str) -> None:
        """Removes an Account that a refused row reported as deleted or purged.

        No domain leads to it until a refresh has read it again.
        """
        self._remove(account_id)
        self._gone[account_id[:15]] = None
        while len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def _remove(self, account_id: str) -> None:
        if old := self._accounts.pop(account_id, None):
            left = [account for account in self._domains[old.domain] if account.id != account_id]
            if left:
                self._domains[old.domain] = left
            else:
                del self._domains[old.domain]

    def account_of(self, mail_domain: str) -> str | None:
        """The ID of the Account of a mail domain; None if it has none, or is free mail."""
        if is_free_mail(mail_domain):
            return None
        registrable = registrable_domain(mail_domain)
        if registrable is None:
            return None
        for _ in range(2):  # a configured domain may name another domain, and that one an Account
            if accounts := self._domains.get(registrable):
                return accounts[0].id
            configured = self._configured.get(registrable)
            if not configured or "." not in configured:
                return configured if configured and configured[:15] not in self._gone else None
            registrable = configured.lower()
        return None


def _query(soql: str, reference: str, *, deleted: bool) -> Subrequest:
    resource = "queryAll" if deleted else "query"
    return Subrequest("GET", f"/{resource}?q={quote(soql, safe='')}", reference)
