"""The traffic class of a referrer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engines.purchase.referrer import traffic_class


@pytest.mark.parametrize(
    ("referrer", "page", "kind"),
    [
        ("https://www.google.com/", "/cart", "organic"),
        ("HTTPS://USER:PASS@WWW.BING.COM:8443?q=1", "/cart", "organic"),
        ("https://search.yahoo.co.jp#top", "/cart", "organic"),
        ("https://mail.google.com/mail/u/0", "/cart", "email"),
        ("https://t.co/abc", "/cart", "social"),
        ("android-app://com.example.reader/", "https://shop.example/", "referral"),
        ("google.com", "/cart", "organic"),
        ("https://google.evil.example/", "https://shop.example/", "referral"),
        ("https://blog.test/", "https://shop.example/", "referral"),
        ("https://blog.test/", "/cart", None),
        ("https://www.shop.example/home", "https://checkout.shop.example/pay", None),
        ("https://localhost:3000/", "https://shop.example/", None),
        ("about:blank", "https://shop.example/", None),
        ("/home", "/cart", None),
        ("", "/cart", "direct"),
        ("https://", "/cart", None),
        (".", "..", None),
    ],
)
def test_a_referrer_is_classed_by_its_host(referrer: str, page: str, kind: str | None) -> None:
    assert traffic_class(referrer, page) == kind


@settings(max_examples=50)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_referrer_is_too_strange(referrer: str, page: str) -> None:
    assert traffic_class(referrer, page) in {None, "direct", "email", "organic", "social", "paid", "referral"}
