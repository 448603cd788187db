"""The guarded client's other half: send something to an address that somebody else has named.

The rules are those of ``fetch.py``: a name is resolved here, each of its addresses is checked, the connection goes to a
checked one, and no proxy of our surroundings is asked. More is forbidden than in fetching, since a request that sends
something can do more harm: a redirect is an answer like any other, of the ports below 1024 only those of http and https
are used, and http itself only where that is allowed. Nothing of one conversation is left for the next, neither cookies
nor connections.

Everything happens on the event loop under one time limit, so that a receiver that answers byte by byte costs no thread.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, urlsplit

from graticule.data.fetch import (
    FetchPolicy,
    IPAddress,
    Unfetchable,
    check_host,
    is_public,
    literal_address,
    parse_reference,
)

if TYPE_CHECKING:
    import ssl

_USE = "told"
_WEB_PORTS = frozenset({80, 443})
_PRIVILEGED = 1024
_ERROR_CHARACTERS = 200


class Unsent(Exception):
    """Something could not be sent, or nobody answered; the text is one sentence for whoever named the address."""


class ReceiverPolicy(FetchPolicy, frozen=True, kw_only=True):
    """Where something may be sent."""

    timeout_s: float = 10.0
    """Most seconds for everything together."""

    allow_http: bool = False
    """Whether addresses may begin with ``http:``; where private addresses are allowed they may anyway."""

    allowed_hosts: frozenset[str] = frozenset()
    """Hosts, and hosts with a port, that may be sent to whatever their address, their port and their scheme are."""

    def allows(self, parts: SplitResult) -> bool:
        """Whether an address is subject to no rules: whoever runs the service trusts it, or all private ones."""
        named = {parts.hostname, f"{parts.hostname}:{port_of(parts)}"}
        return self.allow_private_addresses or bool(named & self.allowed_hosts)


def port_of(parts: SplitResult) -> int:
    """Return the port of an http(s) address."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def receiver_of(address: str) -> str:
    """Return host and port of an http(s) address: what may fail for one of them is no matter of the others."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{port_of(parts)}"


def check_receiver(address: str, policy: ReceiverPolicy) -> None:
    """
    Refuse an address to which nothing may be sent, as far as that can be seen without resolving its name.

    Parameters
    ----------
    address : str
        The address.
    policy : ReceiverPolicy
        What is allowed.

    Raises
    ------
    Unfetchable
        If it may not be used; the text says why.
    """
    parts = parse_reference(address, use=_USE)
    host = _encoded_host(address, cast("str", parts.hostname))
    if parts.port == 0:
        raise Unfetchable(f"the href names port 0, where nobody listens; use 443, 80, or one of at least {_PRIVILEGED}")
    if policy.allows(parts):
        return
    check_host(host, policy, use=_USE)
    port = port_of(parts)
    if port < _PRIVILEGED and port not in _WEB_PORTS:
        raise Unfetchable(f"the href names port {port}; use 80, 443, or one of at least {_PRIVILEGED}")
    if parts.scheme == "http" and not policy.allow_http:
        raise Unfetchable("the href begins with http, which anybody on the way can read; use https")


def _encoded_host(address: str, host: str) -> str:
    """Return the host of an address as its name is looked up; raise Unfetchable for one that no resolver can know."""
    if literal_address(host) is not None:
        return host
    reason = f"the href names the host {host}, which is no valid name"
    if not host.isascii():
        try:
            host = _library().URL(address).raw_host.decode("ascii")
        except _library().InvalidURL as error:
            raise Unfetchable(f"{reason}; write it as DNS has it, in plain letters") from error
        if literal_address(host) is not None:
            raise Unfetchable(f"{reason} but spells an address; write that in plain digits")
    try:
        host.encode("idna")  # as the resolver does: no part may be empty or longer than 63 characters
    except UnicodeError as error:
        raise Unfetchable(f"{reason}; its parts between dots have 1 to 63 characters") from error
    return host


async def post(address: str, body: bytes, headers: Mapping[str, str], policy: ReceiverPolicy) -> int:
    """
    POST something to an address and return the status of the answer; its body is not read.

    Parameters
    ----------
    address : str
        An http(s) address.
    body : bytes
        What is sent.
    headers : mapping of str to str
        Headers that go with it; ``Content-Type`` among them.
    policy : ReceiverPolicy
        What is allowed, and `timeout_s`, the seconds for everything together.

    Returns
    -------
    int
        The HTTP status; redirects are not followed.

    Raises
    ------
    Unsent
        If there was no answer, or the address may not be reached.
    """
    try:
        async with asyncio.timeout(policy.timeout_s):
            return await _post(address, body, headers, policy)
    except TimeoutError as error:
        raise Unsent(f"no answer within {policy.timeout_s:g} s") from error
    except Unfetchable as error:
        raise Unsent(str(error)) from error


async def _post(address: str, body: bytes, headers: Mapping[str, str], policy: ReceiverPolicy) -> int:
    check_receiver(address, policy)
    trusted = policy.allows(parse_reference(address))
    httpx2 = await _loaded(_library)
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise Unsent(f"the address is not valid ({error})") from error
    host, secure = url.raw_host.decode("ascii").strip("[]"), url.scheme == "https"
    context = await _loaded(_trusted) if secure else False
    port = url.port or (443 if secure else 80)
    addresses = await _checked_addresses(host, port, trusted=trusted)
    patience = httpx2.Timeout(None, connect=policy.timeout_s / len(addresses))  # none takes the time of the next
    failure = ""
    for one in addresses:
        request = httpx2.Request(
            "POST",
            url.copy_with(host=str(one), port=port),
            content=body,
            headers={"host": url.netloc.decode("ascii"), "user-agent": "graticule", "connection": "close", **headers},
            extensions={"sni_hostname": host, "timeout": patience.as_dict()},
        )
        try:
            async with httpx2.AsyncHTTPTransport(verify=context, trust_env=False) as transport:
                response = await transport.handle_async_request(request)
                await response.aclose()
                return int(response.status_code)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failure = _short(error)
        except httpx2.HTTPError as error:
            raise Unsent(f"{host} broke off ({_short(error)})") from error
    raise Unsent(f"{host} cannot be reached ({failure})")


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:_ERROR_CHARACTERS]


@cache
def _library() -> Any:
    import httpx2

    return httpx2


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates that are trusted."""
    import httpx2

    return httpx2.create_ssl_context()


async def _loaded(load: Any) -> Any:
    """Return what takes tenths of a second to load, without keeping the event loop meanwhile."""
    return load() if load.cache_info().currsize else await asyncio.to_thread(load)


async def _checked_addresses(host: str, port: int, *, trusted: bool) -> list[IPAddress]:
    """Return the addresses of a host, all of them allowed."""
    literal = literal_address(host)
    addresses = [literal] if literal is not None else await _resolve(host, port)
    if not trusted and not all(map(is_public, addresses)):
        raise Unfetchable(f"the href points to {host}, which has a private address; only public ones are {_USE}")
    return addresses


async def _resolve(host: str, port: int) -> list[IPAddress]:
    # The system's resolver knows no time limit, so it gets a thread of its own: one that is left behind ends by itself
    # and takes no place in the pool that others need.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[IPAddress]] = loop.create_future()

    def tell(found: list[IPAddress], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found: list[IPAddress] = []
        failure: Exception | None = None
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as error:
            failure = Unfetchable(f"the name {host} cannot be resolved")
            failure.__cause__ = error
        try:
            loop.call_soon_threadsafe(tell, found, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    return await answer
