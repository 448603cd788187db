"""What the suite's HTTP clients put on the wire, header for header.

The tests of this folder do not use `httpx2`: it adds headers of its own and refuses to send the trailing blank
of ``Prefer: respond-async ``, which the suite does send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urljoin, urlsplit

JSON = "application/json"
JSON_BODY = "application/json; charset=UTF-8"
"""What the suite calls its bodies."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as it came."""

    url: str
    status: int
    version: int
    """11 for HTTP/1.1."""
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def first(self, name: str) -> str:
        """Return the first value of a header, which must be there."""
        values = self.all(name)
        assert values, f"{self}: no {name} header"
        return values[0]

    def json(self) -> Any:
        """Return the body read as JSON, which it must be."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise AssertionError(f"{self}: the body is not JSON") from error

    def __str__(self) -> str:
        head = "".join(f"\n{name}: {value}" for name, value in self.headers)
        return f"{self.url} answered {self.status}{head}\n\n{self.body[:1000]!r}"


def get(url: str, *, accept: str | None = JSON) -> Answer:
    """GET as the suite does: redirects are followed; nothing is sent but Accept, and with None not even that."""
    headers = {} if accept is None else {"Accept": accept}
    for _ in range(5):
        answer = _send("GET", url, headers)
        if answer.status not in REDIRECTS:
            return answer
        url = urljoin(url, answer.first("Location"))
    raise AssertionError(f"{url}: redirected five times")


def post(url: str, document: Any, *, prefer: str | None = None) -> Answer:
    """POST a JSON document as the suite does; redirects are not followed."""
    headers = {"Accept": JSON, "Content-Type": JSON_BODY}
    if prefer is not None:
        headers["Prefer"] = prefer
    return _send("POST", url, headers, json.dumps(document).encode())


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    address = urlsplit(url)
    assert address.scheme == "http", f"not an address that the suite can ask: {url!r}"
    connection = HTTPConnection(address.netloc, timeout=SECONDS)
    try:
        connection.putrequest(
            method, f"{address.path or '/'}{'?' if address.query else ''}{address.query}", skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(
            url=f"{method} {url}",
            status=response.status,
            version=response.version,
            headers=tuple(response.getheaders()),
            body=response.read(),
        )
    finally:
        connection.close()
