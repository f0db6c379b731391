"""The host in an Account's Website."""

import pytest

from connectors.salesforce.domains import WebsiteHost, website_host


@pytest.mark.parametrize(
    ("website", "host", "domain"),
    [
        ("https://www.acme.co.uk/about?x=1", "acme.co.uk", "acme.co.uk"),
        ("acme.com", "acme.com", "acme.com"),
        ("WWW.Shop.ACME.com:8080/", "shop.acme.com", "acme.com"),
        ("www2.acme.com", "acme.com", "acme.com"),
        ("https://dot.ca.gov/", "dot.ca.gov", "ca.gov"),
        ("www.ca.gov", "ca.gov", "ca.gov"),
        ("www.fr", "www.fr", "www.fr"),
        ("acme.com, acme.de", "acme.com", "acme.com"),
        ("http://b\u00fccher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("https://www.google.com", "google.com", "google.com"),
        ("www.wordpress.com", "wordpress.com", "wordpress.com"),
        ("www.acme.com.", "acme.com", "acme.com"),
        ("https://acme.github.io", "acme.github.io", "acme.github.io"),
    ],
)
def test_an_accounts_host_is_read_however_it_was_typed(
    website: object, host: str, domain: str
) -> None:
    assert website_host(website) == WebsiteHost(host, domain)


@pytest.mark.parametrize(
    "website",
    [
        "https://www.linkedin.com/company/acme",
        "https://sites.google.com/view/acme",
        "maps.google.de/?cid=7",
        "https://www.google.com/maps/place/Acme",
        "https://acme.wordpress.com",
        "https://goo.gl/maps/x",
        "gmail.com",
        "http://[broken",
        "acme",
        "co.uk",
        f"{'a' * 300}.com",
        "",
        None,
        7,
    ],
)
def test_a_website_that_tells_no_company_has_no_host(website: object) -> None:
    assert website_host(website) is None
