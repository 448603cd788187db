"""Which address clients use, as trusted proxies tell it."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from graticule.web.requests import forwarded_base

PROXIES = ("10.0.0.0/8", "fd00::/8")
GOOD = "https://example.org"


def base(**headers: str | list[str]) -> str | None:
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, given in {"host": "inside:8080", **headers}.items()
        for value in ([given] if isinstance(given, str) else given)
    ]
    return forwarded_base(Headers(raw=pairs), "http", PROXIES)


@pytest.mark.parametrize(
    "forwarded",
    [
        "for=203.0.113.9;host=example.org;proto=https",
        "FOR=203.0.113.9; HOST=example.org; PROTO=HTTPS",
        "host=evil.org;proto=http, for=203.0.113.9;host=example.org;proto=https",
        ["host=evil.org;proto=http", "for=203.0.113.9;host=example.org;proto=https"],
        "for=10.0.0.7;host=evil.org, for=203.0.113.9;host=example.org;proto=https",
        'for="x, for=203.0.113.9;host=example.org;proto=https',
        "for=203.0.113.9;host=example.org;proto=https, for=10.0.0.7;host=inside.org;proto=http",
        "host=evil.org, for=203.0.113.9;host=example.org;proto=https, for=10.0.0.7;host=inside.org;proto=http",
        'for="[2001:db8::1]:4711";host=example.org;proto=https, for="[fd00::7]:80";host=inside.org, for=10.0.0.8:90',
    ],
)
def test_the_element_that_the_outermost_trusted_proxy_wrote_counts(forwarded: str | list[str]) -> None:
    assert base(forwarded=forwarded) == GOOD


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_host": "example.org", "x_forwarded_proto": "https"},
        {"x_forwarded_host": "evil.org, example.org", "x_forwarded_proto": "http, https"},
        {"x_forwarded_host": ["evil.org", "example.org"], "x_forwarded_proto": ["http", "https"]},
        {
            "x_forwarded_for": "1.2.3.4, 203.0.113.9, 10.0.0.7",
            "x_forwarded_host": "evil.org, example.org, inside.org",
            "x_forwarded_proto": "http, https, http",
        },
        {"x_forwarded_for": "203.0.113.9, 10.0.0.7", "x_forwarded_host": "example.org", "x_forwarded_proto": "https"},
        {
            "x_forwarded_for": "203.0.113.9, 10.0.0.7, fd00::7",
            "x_forwarded_host": "evil.org, example.org",
            "x_forwarded_proto": "https",
        },
    ],
)
def test_the_members_that_the_outermost_trusted_proxy_wrote_count(headers: dict[str, str | list[str]]) -> None:
    assert base(**headers) == GOOD


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/ogc", "/ogc"),
        ("/ogc/", "/ogc"),
        ("/", ""),
        ("/a/b.c-d~e", "/a/b.c-d~e"),
        ("/evil, /ogc", "/ogc"),
        (".evil.org", ""),
        ("@evil.org", ""),
        (":80@evil.org", ""),
        ("//evil.org", ""),
        ("/a?b", ""),
        ("/a#b", ""),
        ('/"><script>', ""),
        ("/a b", ""),
        ("https://evil.org", ""),
    ],
)
def test_a_prefix_is_a_path_or_is_ignored(prefix: str, expected: str) -> None:
    headers = {"x_forwarded_host": "example.org", "x_forwarded_proto": "https", "x_forwarded_prefix": prefix}

    assert base(**headers) == GOOD + expected


@pytest.mark.parametrize("host", ["evil.org/", "a@b", "a b", "http://a"])
def test_what_is_no_host_is_not_believed(host: str) -> None:
    assert base(x_forwarded_host=host) is None
