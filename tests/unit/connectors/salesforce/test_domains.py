"""The company domain in an Account's Website."""

import pytest

from connectors.salesforce.domains import website_domain


@pytest.mark.parametrize(
    ("website", "domain"),
    [
        ("https://www.acme.co.uk/about?x=1", "acme.co.uk"),
        ("acme.com", "acme.com"),
        ("WWW.Shop.ACME.com:8080/", "acme.com"),
        ("acme.com, acme.de", "acme.com"),
        ("http://bücher.example", "xn--bcher-kva.example"),
        ("https://www.linkedin.com/company/acme", None),
        ("https://sites.google.com/view/acme", None),
        ("maps.google.de/?cid=7", None),
        ("https://www.google.com/maps/place/Acme", None),
        ("https://www.google.com", "google.com"),
        ("https://acme.wordpress.com", None),
        ("www.wordpress.com", "wordpress.com"),
        ("https://goo.gl/maps/x", None),
        ("www.acme.com.", "acme.com"),
        ("gmail.com", None),
        ("http://[broken", None),
        ("acme", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_an_accounts_domain_is_read_however_it_was_typed(
    website: object, domain: str | None
) -> None:
    assert website_domain(website) == domain
