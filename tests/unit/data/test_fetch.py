"""The guarded client against a real server on this machine."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from graticule.data.fetch import (
    BLOCK_BYTES,
    FetchPolicy,
    RemoteFile,
    Unfetchable,
    fetch_to,
    is_public,
    literal_address,
    parse_reference,
)

CONTENT = bytes(range(256)) * 1024  # 256 KiB, four blocks
HERE = FetchPolicy(allow_private_addresses=True, timeout_s=5, idle_timeout_s=5)


class Source(BaseHTTPRequestHandler):
    """A server that behaves as its paths say."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("range"), self.headers.get("host")))  # type: ignore[attr-defined]
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        getattr(self, f"get_{path.strip('/').replace('-', '_')}")(query)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.send(body)

    def send(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def get_plain(self, _: object) -> None:
        self.answer(200, CONTENT, Content_Type="image/png; a=b")

    def get_missing(self, _: object) -> None:
        self.answer(404)

    def get_busy(self, _: object) -> None:
        self.answer(503)

    def get_redirect(self, query: dict[str, list[str]]) -> None:
        self.answer(302, Location=query["to"][0])

    def get_loop(self, _: object) -> None:
        self.answer(302, Location="/loop")

    def get_cut(self, _: object) -> None:
        self.answer(200, b"half", Content_Length="8")
        self.close_connection = True

    def get_stall(self, _: object) -> None:
        self.answer(200, b"", Content_Length="8")
        self.server.released.wait(5)  # type: ignore[attr-defined]
        self.close_connection = True

    def get_trickle(self, _: object) -> None:
        self.answer(200, b"", Content_Length="1000")
        self.close_connection = True
        for _number in range(1000):
            if self.server.released.wait(0.02):  # type: ignore[attr-defined]
                return
            self.send(b".")

    def get_endless(self, _: object) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while not self.server.released.is_set():  # type: ignore[attr-defined]
                self.wfile.write(CONTENT)
        except OSError:
            return

    def get_ranged(self, _: object) -> None:
        self.ranged('"v1"')

    def get_changing(self, _: object) -> None:
        number = len(self.server.seen)  # type: ignore[attr-defined]
        self.ranged(f'"v{number}"')

    def ranged(self, etag: str) -> None:
        if self.headers.get("if-range", etag) != etag:
            self.answer(200, CONTENT)
            return
        begin, _, end = self.headers["range"].removeprefix("bytes=").partition("-")
        last = min(int(end), len(CONTENT) - 1)
        self.answer(
            206,
            CONTENT[int(begin) : last + 1],
            Content_Range=f"bytes {begin}-{last}/{len(CONTENT)}",
            ETag=etag,
            Content_Type="image/tiff",
        )


class Server(ThreadingHTTPServer):
    """A server that does not tell of clients who hang up: the tests are about them."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class Running:
    """The server's address, and what it was asked."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_port
        self.seen: list[tuple[str, str | None, str | None]] = server.seen  # type: ignore[attr-defined]

    def __call__(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


@pytest.fixture
def source() -> Iterator[Running]:
    with Server(("127.0.0.1", 0), Source) as server:
        server.seen, server.released = [], threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Running(server)
        finally:
            server.released.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


def test_a_file_arrives_with_its_media_type(source: Running, tmp_path: Path) -> None:
    fetched = fetch_to(tmp_path / "a", source("plain"), HERE)

    assert (tmp_path / "a").read_bytes() == CONTENT
    assert (fetched.media_type, fetched.size) == ("image/png; a=b", len(CONTENT))


def test_the_server_is_addressed_by_its_name(source: Running, tmp_path: Path) -> None:
    fetch_to(tmp_path / "a", source("plain", host="localhost"), HERE)

    assert source.seen[0][2] == f"localhost:{source.port}"


def test_a_redirect_is_followed(source: Running, tmp_path: Path) -> None:
    fetched = fetch_to(tmp_path / "a", source("redirect?to=/plain"), HERE)

    assert fetched.size == len(CONTENT)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("missing", "answered 404", id="404"),
        pytest.param("busy", "answered 503", id="503"),
        pytest.param("loop", "redirected more than 5 times", id="redirect loop"),
        pytest.param("cut", "broke off", id="answer cut short"),
        pytest.param("redirect?to=file:///etc/passwd", "only http and https", id="redirect to a file"),
        pytest.param("redirect?to=http://[bad", "no valid address", id="redirect to nonsense"),
    ],
)
def test_a_failure_of_the_source_has_its_sentence(source: Running, tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(Unfetchable, match=words):
        fetch_to(tmp_path / "a", source(path), HERE)

    assert not (tmp_path / "a").exists()


OWN = "https://service.example/files/1/a.png"


def signing(source: Running, path: str) -> FetchPolicy:
    """What a job may fetch that refers to an own file, which the storage has; nothing else in private networks."""
    return FetchPolicy(signed_files={OWN: source(path)}, max_bytes=100)


def test_an_own_file_is_fetched_from_the_storage_wherever_that_is(source: Running, tmp_path: Path) -> None:
    fetch_to(tmp_path / "a", OWN, signing(source, "plain?signature=secret"))

    assert (tmp_path / "a").read_bytes() == CONTENT


def test_parts_of_an_own_file_are_read_from_the_storage(source: Running) -> None:
    with RemoteFile(OWN, signing(source, "ranged")) as remote:
        assert remote.read_at(len(CONTENT) - 4, 4) == CONTENT[-4:]


def test_another_address_of_the_storage_is_as_private_as_any(source: Running, tmp_path: Path) -> None:
    with pytest.raises(Unfetchable, match="private address"):
        fetch_to(tmp_path / "a", source("plain"), signing(source, "plain"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing?signature=secret", "upload it, or run its job, again"),
        ("busy?signature=secret", "the storage of this service"),
    ],
    ids=["gone", "busy"],
)
def test_a_fault_does_not_show_where_an_own_file_lies(source: Running, tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(Unfetchable, match=words) as error:
        fetch_to(tmp_path / "a", OWN, signing(source, path))

    assert "secret" not in str(error.value)
    assert "127.0.0.1" not in str(error.value)


@pytest.mark.parametrize("path", ["plain", "endless"])
def test_more_than_the_limit_is_not_taken(source: Running, tmp_path: Path, path: str) -> None:
    policy = FetchPolicy(allow_private_addresses=True, max_bytes=1000)

    with pytest.raises(Unfetchable, match="1000"):
        fetch_to(tmp_path / "a", source(path), policy)

    assert not (tmp_path / "a").exists()


def test_an_announced_size_above_the_limit_is_refused_before_the_body(source: Running, tmp_path: Path) -> None:
    # This source announces 8 bytes and sends none: who waits for the first one runs into the time limit.
    policy = FetchPolicy(allow_private_addresses=True, max_bytes=7, idle_timeout_s=2)

    with pytest.raises(Unfetchable, match="has 8 bytes, more than the 7 that are fetched"):
        fetch_to(tmp_path / "a", source("stall"), policy)
    with pytest.raises(Unfetchable, match="has 8 bytes, more than the 7 that are fetched"):
        RemoteFile(source("stall"), policy)


def test_a_stream_without_a_length_is_refused_when_it_passes_the_limit(source: Running, tmp_path: Path) -> None:
    policy = FetchPolicy(allow_private_addresses=True, max_bytes=1000)

    with pytest.raises(Unfetchable, match="is larger than 1000 bytes"):
        fetch_to(tmp_path / "a", source("endless"), policy)
    with pytest.raises(Unfetchable, match="is larger than 1000 bytes"):
        RemoteFile(source("endless"), policy)


def test_of_content_that_is_not_wanted_only_the_start_is_fetched(source: Running, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def is_wanted(start: bytes) -> bool:
        asked.append(start)
        return False

    fetched = fetch_to(tmp_path / "a", source("endless"), HERE, is_wanted=is_wanted)
    with RemoteFile(source("endless"), HERE, is_wanted=is_wanted) as remote:
        assert remote.size <= len(CONTENT)

    assert fetched.size <= len(CONTENT)
    assert len(asked) == 2
    assert all(start[:256] == CONTENT[:256] for start in asked)


def test_wanted_content_is_fetched_whole(source: Running, tmp_path: Path) -> None:
    fetch_to(tmp_path / "a", source("plain"), HERE, is_wanted=lambda start: start.startswith(CONTENT[:256]))

    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        pytest.param("stall", FetchPolicy(allow_private_addresses=True, idle_timeout_s=0.3), id="no byte comes"),
        pytest.param("trickle", FetchPolicy(allow_private_addresses=True, timeout_s=0.3), id="bytes come too slowly"),
    ],
)
def test_a_slow_source_is_given_up(source: Running, tmp_path: Path, path: str, policy: FetchPolicy) -> None:
    began = time.monotonic()

    with pytest.raises(Unfetchable, match=r"in time|did not arrive"):
        fetch_to(tmp_path / "a", source(path), policy)

    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_a_private_address_is_not_reached(source: Running, tmp_path: Path, host: str) -> None:
    with pytest.raises(Unfetchable, match="private"):
        fetch_to(tmp_path / "a", source("plain", host=host), FetchPolicy())

    assert source.seen == []


def test_a_name_with_a_private_address_is_not_reached(
    source: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", _names({"inside.example": ["127.0.0.1"]}))

    with pytest.raises(Unfetchable, match=r"inside\.example, which has a private address"):
        fetch_to(tmp_path / "a", source("plain", host="inside.example"), FetchPolicy())

    assert source.seen == []


def test_a_redirect_to_a_private_address_is_not_followed(
    source: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first host counts as public, the second is what it is.
    monkeypatch.setattr("socket.getaddrinfo", _names({"public.example": ["127.0.0.1"]}))
    monkeypatch.setattr("graticule.data.fetch.is_public", lambda address: str(address) == "127.0.0.1")

    with pytest.raises(Unfetchable, match=r"169\.254\.169\.254, a private address"):
        fetch_to(tmp_path / "a", source("redirect?to=http://169.254.169.254/", host="public.example"), FetchPolicy())


def test_a_name_is_resolved_once_for_check_and_use(
    source: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("socket.getaddrinfo", _names({"turning.example": ["127.0.0.1"]}, asked))
    monkeypatch.setattr("graticule.data.fetch.is_public", lambda _: True)

    fetch_to(tmp_path / "a", source("plain", host="turning.example"), FetchPolicy())

    assert asked == ["turning.example"]


def test_a_name_that_does_not_exist_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", _names({}))

    with pytest.raises(Unfetchable, match=r"name nowhere\.example cannot be resolved"):
        fetch_to(tmp_path / "a", "http://nowhere.example/", FetchPolicy())


def test_a_closed_port_is_said_so(source: Running, tmp_path: Path) -> None:
    with pytest.raises(Unfetchable, match="cannot be reached"):
        fetch_to(tmp_path / "a", "http://127.0.0.1:1/", HERE)


def _names(known: dict[str, list[str]], asked: list[str] | None = None) -> Callable[..., object]:
    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        if literal_address(host) is not None:
            return [(2, 1, 6, "", (host, port))]
        if asked is not None:
            asked.append(host)
        if host not in known:
            raise OSError("no such name")
        return [(2, 1, 6, "", (address, port)) for address in known[host]]

    return resolve


@pytest.mark.parametrize(
    "href",
    [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "no address",
        "http://",
        "//example.org/a",
        "http://a b/",
        "http://u:p@a.org/",
    ],
)
def test_what_is_no_web_address_is_refused(href: str) -> None:
    with pytest.raises(Unfetchable):
        parse_reference(href)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_name_is_no_literal_address() -> None:
    assert literal_address("example.org") is None
    assert literal_address("cafe") is None


def test_only_the_blocks_that_are_read_are_fetched(source: Running) -> None:
    with RemoteFile(source("ranged"), HERE) as remote:
        found = remote.read_at(2 * BLOCK_BYTES + 10, 5)
        again = remote.read_at(2 * BLOCK_BYTES, 20)

    assert remote.ranged
    assert found == CONTENT[10:15]
    assert again == CONTENT[:20]
    assert [asked for _, asked, _ in source.seen] == ["bytes=0-65535", "bytes=131072-196607"]


def test_neighbouring_blocks_come_in_one_request(source: Running) -> None:
    with RemoteFile(source("ranged"), HERE) as remote:
        assert remote.read_at(0, len(CONTENT)) == CONTENT

    assert [asked for _, asked, _ in source.seen] == ["bytes=0-65535", "bytes=65536-262143"]


def test_a_remote_file_reads_like_any_file(source: Running) -> None:
    with RemoteFile(source("ranged"), HERE) as remote, remote.opener("any name") as file:
        file.seek(-3, 2)

        assert file.read() == CONTENT[-3:]
        assert file.read(1) == b""
        assert file.tell() == len(CONTENT)


def test_a_source_without_ranges_is_taken_whole(source: Running) -> None:
    with RemoteFile(source("plain"), HERE) as remote:
        assert not remote.ranged
        assert remote.read_at(1000, 8) == CONTENT[1000:1008]

    assert len(source.seen) == 1


def test_a_file_that_changes_while_it_is_read_is_noticed(source: Running) -> None:
    with RemoteFile(source("changing"), HERE) as remote, pytest.raises(Unfetchable, match="changed"):
        remote.read_at(BLOCK_BYTES, 1)


def test_the_limit_counts_what_is_read_of_a_remote_file(source: Running) -> None:
    policy = FetchPolicy(allow_private_addresses=True, max_bytes=2 * BLOCK_BYTES)

    with RemoteFile(source("ranged"), policy) as remote, pytest.raises(Unfetchable, match="more than"):
        remote.read_at(0, len(CONTENT))


def test_a_reader_keeps_the_cause_of_a_short_read(source: Running) -> None:
    with RemoteFile(source("changing"), HERE) as remote:
        reader = remote.opener("any name")
        reader.seek(BLOCK_BYTES)

        assert reader.read(10) == b""
        assert remote.failure is not None
