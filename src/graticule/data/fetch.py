"""The guarded client: fetch what somebody else's reference points to, without reaching what they must not reach.

A name is resolved here, every address it has is checked, and the connection goes to a checked address, so that a name
that changes its answer between check and use gains nothing. Redirects are followed by hand, each with the same checks.
Sizes and times are bounded while the bytes flow. The HTTP library loads with the first fetch.
"""

from __future__ import annotations

import io
import ipaddress
import re
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Self, cast
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

if TYPE_CHECKING:
    import httpx2
    from _typeshed import WriteableBuffer

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

BLOCK_BYTES = 64 * 1024
"""What is read at least at a time of a remote file: the header of a COG fits into one block."""

START_BYTES = 4096
"""How much of a content has come when it is asked whether the rest is wanted."""

CACHED_BLOCKS = 256
"""Blocks kept of one remote file: 16 MiB."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_NUMERIC_HOST = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the guarded client may do."""

    allow_private_addresses: bool = False
    """Whether loopback, private and link-local addresses may be reached."""

    max_bytes: int = 2 * 1024**3
    """Most bytes taken of one reference."""

    timeout_s: float = 300.0
    """Most seconds for one reference, from the first look-up of its name; for each read of a remote raster."""

    idle_timeout_s: float = 20.0
    """Most seconds without a byte, and most for a connection to be made."""

    max_redirects: int = 5

    signed_files: dict[str, str] = {}
    """Addresses of the service's own files that its object storage has, and the signed ones at which that offers them.

    The latter are fetched in place of the former; error messages do not show them.
    """

    def towards(self, href: str) -> FetchPolicy:
        """Return what holds for one address: own files may lie in a private network and be as large as was let in."""
        if href not in self.signed_files:
            return self
        return msgspec.structs.replace(self, allow_private_addresses=True, max_bytes=sys.maxsize)

    def host_of(self, href: str) -> str:
        """Return what a sentence calls the host of an address."""
        if href in self.signed_files or href in self.signed_files.values():
            return "the storage of this service"
        return str(urlsplit(href).hostname)


class Unfetchable(Exception):
    """
    A reference cannot be fetched; the text is one sentence for whoever sent it.

    Who asked turns it into a fault with the place of the reference, so it is no leaf of the tree of errors.
    """


class Undelivered(Unfetchable):
    """The source of a reference did not deliver this time: the same request may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of a fetch."""

    media_type: str | None
    """As the server said, with its parameters."""

    size: int
    """Bytes."""


# --- what may be reached -----------------------------------------------------------------------------------------


def parse_reference(href: str, *, use: str = "fetched") -> SplitResult:
    """
    Return the parts of an http(s) address.

    Parameters
    ----------
    href : str
        The address.
    use : str
        What is done with addresses, for the sentence that refuses this one.

    Raises
    ------
    Unfetchable
        If it is no address that can be fetched.
    """
    try:
        parts = urlsplit(href)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unfetchable(f"the href is no valid address ({error})") from error
    if parts.scheme not in ("http", "https"):
        raise Unfetchable(f"the href begins with {parts.scheme or 'no scheme'!r}; only http and https are {use}")
    if not host or any(character.isspace() or ord(character) < 32 for character in href):
        raise Unfetchable("the href is no valid address; send one like https://example.org/data.tif")
    if parts.username is not None or parts.password is not None:
        raise Unfetchable("the href holds a user name or password; send an address without")
    return parts


def literal_address(host: str) -> IPAddress | None:
    """Return the address that a host name spells out, in any spelling that a resolver would take, or None."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _NUMERIC_HOST.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001 and 2130706433 are one
    except OSError:
        return None


def is_public(address: IPAddress) -> bool:
    """Whether an address lies on the public Internet; one that carries another counts as the one it carries."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if carried is None and address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(carried)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_host(host: str, policy: FetchPolicy, *, use: str = "fetched") -> None:
    """Raise Unfetchable when a host may not be reached, as far as its name alone says."""
    if policy.allow_private_addresses:
        return
    name = host.rstrip(".").lower()
    address = literal_address(name)
    if name == "localhost" or name.endswith(".localhost") or (address is not None and not is_public(address)):
        raise Unfetchable(f"the href points to {host}, a private address; only public ones are {use}")


def _checked_addresses(host: str, port: int, policy: FetchPolicy, timeout_s: float) -> list[IPAddress]:
    """Return the addresses of a host, all of them allowed."""
    check_host(host, policy)
    addresses = _resolve(host, port, timeout_s)
    if not policy.allow_private_addresses and not all(map(is_public, addresses)):
        raise Unfetchable(f"the href points to {host}, which has a private address; only public ones are fetched")
    return addresses


def _resolve(host: str, port: int, timeout_s: float) -> list[IPAddress]:
    # The system's resolver knows no time limit; a thread that is left behind ends by itself.
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.append(error)

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(timeout_s)
    if not answer:
        raise Undelivered(f"the name {host} was not resolved within {timeout_s:.0f} s; try again later")
    if isinstance(answer[0], Exception):
        raise Undelivered(f"the name {host} cannot be resolved; check the href") from answer[0]
    return list(OrderedDict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in answer[0]))


# --- one guarded conversation --------------------------------------------------------------------------------------


class _Session:
    """Requests under one policy, with connections kept between them."""

    def __init__(self, policy: FetchPolicy) -> None:
        self.policy = policy
        self._clients: dict[bool, httpx2.Client] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def get(self, href: str, headers: dict[str, str]) -> Iterator[tuple[str, httpx2.Response, float]]:
        """Yield the last address after redirects, its answer with the body unread, and the time to be done by."""
        import httpx2

        deadline = time.monotonic() + self.policy.timeout_s
        try:
            address, response = self._follow(href, headers, deadline)
            try:
                yield address, response, deadline
            finally:
                response.close()
        except httpx2.TimeoutException as error:
            host = self.policy.host_of(href)
            raise Undelivered(f"{host} did not answer in time ({self._limit(deadline)}); try again later") from error
        except httpx2.RemoteProtocolError as error:
            raise Undelivered(f"{self.policy.host_of(href)} broke off its answer; try again later") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            reason = error or "no reason given"
            raise Undelivered(f"{self.policy.host_of(href)} cannot be reached ({reason})") from error

    def chunks(self, response: httpx2.Response, deadline: float, limit: int) -> Iterator[bytes]:
        """Yield the body while size and time allow."""
        taken = 0
        for chunk in response.iter_bytes():  # as they come: gathering chunks would wait without looking at the clock
            taken += len(chunk)
            if taken > limit:
                raise Unfetchable(f"the content behind the href is larger than {limit} bytes; send a smaller one")
            if time.monotonic() > deadline:
                raise Undelivered(
                    f"the content behind the href did not arrive within {self.policy.timeout_s:g} s; "
                    "send a smaller one or upload it"
                )
            yield chunk

    def _limit(self, deadline: float) -> str:
        if time.monotonic() >= deadline:
            return f"{self.policy.timeout_s:g} s in all"
        return f"{self.policy.idle_timeout_s:g} s without a byte"

    def _follow(self, href: str, headers: dict[str, str], deadline: float) -> tuple[str, httpx2.Response]:
        address = self.policy.signed_files.get(href, href)
        for _ in range(self.policy.max_redirects + 1):
            response = self._send(address, headers, deadline)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                break
            response.close()
            address = _joined(address, response.headers["location"])
        else:
            raise Unfetchable(
                f"the href is redirected more than {self.policy.max_redirects} times; send the last address"
            )
        if response.status_code >= 400 and response.status_code != 416:
            response.close()
            status = response.status_code
            if status == 404 and address in self.policy.signed_files.values():
                raise Unfetchable("there is no such file; it may have expired: upload it, or run its job, again")
            refused = Undelivered if status >= 500 or status == 429 else Unfetchable
            raise refused(
                f"{self.policy.host_of(address)} answered {status} {response.reason_phrase}".rstrip()
                + _REMEDIES.get(status, "; check the href")
            )
        return address, response

    def _send(self, address: str, headers: dict[str, str], deadline: float) -> httpx2.Response:
        """Send one request to a checked address of its host, the next one when a connection fails."""
        import httpx2

        parts = parse_reference(address)
        host, secure = cast("str", parts.hostname), parts.scheme == "https"
        left = deadline - time.monotonic()
        if left <= 0:
            raise Undelivered(f"the content behind the href did not arrive within {self.policy.timeout_s:g} s")
        patience = min(self.policy.idle_timeout_s, left)
        port = parts.port or (443 if secure else 80)
        addresses = _checked_addresses(host, port, self.policy, patience)
        for last, one in [(number == len(addresses), one) for number, one in enumerate(addresses, 1)]:
            pinned = f"[{one}]" if one.version == 6 else str(one)
            request = httpx2.Request(
                "GET",
                parts._replace(netloc=f"{pinned}:{port}", fragment="").geturl(),
                headers={"host": parts.netloc, "accept-encoding": "identity", "user-agent": "graticule", **headers},
                extensions={"sni_hostname": host, "timeout": httpx2.Timeout(patience).as_dict()},
            )
            try:
                return self._client(secure=secure).send(request, stream=True, follow_redirects=False)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if last:
                    raise
        raise Undelivered(f"the name {host} cannot be resolved; check the href")

    def _client(self, *, secure: bool) -> httpx2.Client:
        # Certificates take long to load, so only for those who need them. No proxy: it would reach for us.
        import httpx2

        if secure not in self._clients:
            self._clients[secure] = httpx2.Client(verify=secure, trust_env=False)
        return self._clients[secure]


def _joined(address: str, location: str) -> str:
    try:
        return urljoin(address, location)
    except ValueError as error:
        raise Unfetchable(f"the href is redirected to {location[:200]!r}, which is no valid address") from error


_REMEDIES = {
    401: "; the address must be readable without a token",
    403: "; the address must be readable without a token",
    404: "; check the href",
    429: "; try again later",
    500: "; try again later",
    502: "; try again later",
    503: "; try again later",
    504: "; try again later",
}


# --- whole files -------------------------------------------------------------------------------------------------


def fetch_to(
    path: Path, href: str, policy: FetchPolicy, *, is_wanted: Callable[[bytes], bool] | None = None
) -> Fetched:
    """
    Fetch what a reference points to into a file.

    Parameters
    ----------
    path : Path
        Where to write; nothing is left there when the fetch fails.
    href : str
        An http(s) address.
    policy : FetchPolicy
        What is allowed.
    is_wanted : Callable[[bytes], bool], optional
        Whether content that begins so is of use; of what is not, only the start is fetched.

    Returns
    -------
    Fetched
        Media type, and the size of what was fetched.

    Raises
    ------
    Unfetchable
        If it cannot be had, in one sentence.
    """
    policy = policy.towards(href)
    with _Session(policy) as session, session.get(href, {}) as (_, response, deadline):
        _check_announced(response, policy)
        try:
            with path.open("wb") as file:
                for chunk in _while_wanted(session.chunks(response, deadline, policy.max_bytes), is_wanted):
                    file.write(chunk)
                size = file.tell()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Fetched(media_type=response.headers.get("content-type"), size=size)


def _while_wanted(chunks: Iterable[bytes], is_wanted: Callable[[bytes], bool] | None) -> Iterator[bytes]:
    """Yield all chunks of wanted content, of other content those of its start."""
    start = b""
    for chunk in chunks:
        yield chunk
        if is_wanted is not None and len(start) < START_BYTES:
            start += chunk
            if len(start) >= START_BYTES and not is_wanted(start):
                return


def _check_announced(response: httpx2.Response, policy: FetchPolicy) -> None:
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > policy.max_bytes:
        raise Unfetchable(
            f"the content behind the href has {announced} bytes, more than the {policy.max_bytes} that are fetched; "
            "send a smaller one"
        )


# --- parts of remote files ----------------------------------------------------------------------------------------


class RemoteFile:
    """
    A file elsewhere of which only what is asked for is read, by byte ranges, with a cache of blocks.

    Where the server knows no ranges, the whole is taken into an anonymous temporary file at once.

    Parameters
    ----------
    href : str
        An http(s) address.
    policy : FetchPolicy
        What is allowed; `max_bytes` bounds all that is read.
    is_wanted : Callable[[bytes], bool], optional
        Whether content that begins so is of use; of what is not, only the start is taken where there are no ranges.
    """

    def __init__(self, href: str, policy: FetchPolicy, *, is_wanted: Callable[[bytes], bool] | None = None) -> None:
        self.href = href
        self.size = 0
        self.media_type: str | None = None
        self.ranged = False
        """Whether the server answers byte ranges."""
        self.failure: Unfetchable | None = None
        """Why the last read through `opener` failed; GDAL has no words for it."""
        self._policy = policy.towards(href)
        self._session = _Session(self._policy)
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._whole: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._taken = 0
        self._address = href
        self._version: str | None = None
        try:
            self._begin(is_wanted)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close connections and forget what was read."""
        self._session.close()
        self._blocks.clear()
        if self._whole is not None:
            self._whole.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer only at the end. Raises Unfetchable."""
        with self._lock:
            size = max(0, min(size, self.size - offset))
            if self._whole is not None:
                self._whole.seek(offset)
                return self._whole.read(size)
            first, last = offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES
            found = self._load(first, last) if size else b""
            begin = offset - first * BLOCK_BYTES
            return found[begin : begin + size]

    def opener(self, path: str, mode: str = "rb", **_options: object) -> RemoteReader:
        """Open the file for reading, whatever name GDAL gives it: rasterio's ``opener=``."""
        if "r" not in mode:
            raise OSError("a remote file is only read")
        return RemoteReader(self)

    def _begin(self, is_wanted: Callable[[bytes], bool] | None) -> None:
        headers = {"range": f"bytes=0-{BLOCK_BYTES - 1}"}
        with self._session.get(self.href, headers) as (self._address, response, deadline):
            self.media_type = response.headers.get("content-type")
            part = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if response.status_code == 206 and part is not None and part[1] == "0":
                self.ranged, self.size = True, int(part[3])
                self._version = _strong(response.headers.get("etag")) or response.headers.get("last-modified")
                block = b"".join(self._session.chunks(response, deadline, BLOCK_BYTES))
                self._blocks[0] = block
                self._taken = len(block)
            elif response.status_code == 200:
                _check_announced(response, self._policy)
                self._whole = TemporaryFile()  # noqa: SIM115 - closed by close()
                chunks = self._session.chunks(response, deadline, self._policy.max_bytes)
                for chunk in _while_wanted(chunks, is_wanted):
                    self._whole.write(chunk)
                self.size = self._whole.tell()
            else:
                raise Unfetchable(f"{self._policy.host_of(self._address)} sends no content for the href; check it")

    def _load(self, first: int, last: int) -> bytes:
        """Return blocks `first` to `last` joined; those that are not in the cache come in as few requests as can be."""
        held = {number: self._blocks[number] for number in range(first, last + 1) if number in self._blocks}
        missing = [number for number in range(first, last + 1) if number not in held]
        for begin, end in _runs(missing):
            content = self._request(begin * BLOCK_BYTES, min((end + 1) * BLOCK_BYTES, self.size))
            for number in range(begin, end + 1):
                start = (number - begin) * BLOCK_BYTES
                held[number] = content[start : start + BLOCK_BYTES]
        for number, block in held.items():
            self._blocks[number] = block
            self._blocks.move_to_end(number)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return b"".join(held[number] for number in range(first, last + 1))

    def _request(self, begin: int, end: int) -> bytes:
        if self._taken + end - begin > self._policy.max_bytes:
            raise Unfetchable(
                f"more than {self._policy.max_bytes} bytes of {self.href} were read; send a smaller raster"
            )
        headers = {"range": f"bytes={begin}-{end - 1}"} | ({"if-range": self._version} if self._version else {})
        with self._session.get(self._address, headers) as (_, response, deadline):
            part = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if response.status_code != 206 or part is None or (int(part[1]), int(part[2])) != (begin, end - 1):
                host = self._policy.host_of(self.href)
                raise Undelivered(f"{host} changed the file while it was read; run it again")
            content = b"".join(self._session.chunks(response, deadline, end - begin))
        self._taken += len(content)
        if len(content) != end - begin:
            raise Undelivered(f"{self._policy.host_of(self.href)} broke off its answer; try again later")
        return content


class RemoteReader(io.RawIOBase):
    """One position in a remote file."""

    def __init__(self, source: RemoteFile) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}
        self._position = max(0, origins[whence] + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._source.size - self._position)
        try:
            found = self._source.read_at(self._position, left if size is None or size < 0 else min(size, left))
        except Unfetchable as error:
            # Native code calls this and cannot carry an exception: it sees a short read, the cause waits on the source.
            self._source.failure = error
            return b""
        self._position += len(found)
        return found

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)


def _strong(etag: str | None) -> str | None:
    """Return an entity tag that may stand in If-Range: a weak one may not (RFC 9110, 13.1.5)."""
    return None if etag is None or etag.startswith("W/") else etag


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of consecutive numbers."""
    begin = None
    for number, following in zip(numbers, [*numbers[1:], -1], strict=False):
        begin = number if begin is None else begin
        if following != number + 1:
            yield begin, number
            begin = None
