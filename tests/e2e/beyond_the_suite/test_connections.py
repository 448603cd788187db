"""What arrives on a connection before it is a request: heads without end, requests that stop, and no HTTP at all."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from tests.e2e.beyond_the_suite.asking import PROBLEM, SECONDS, ended
from tests.e2e.beyond_the_suite.conftest import client_of
from tests.serving import Server

GET = b"GET /conformance HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /processes/hello-world/execution HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
FORM = b"POST /processes/hello-world/form HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    media_type: str
    body: bytes

    def problem(self, status: int) -> Any:
        """Return the problem document that this must be."""
        document = json.loads(self.body)
        assert (self.status, self.media_type, document["status"]) == (status, PROBLEM, status), self
        return document


class Connection:
    """A connection to a server; a context manager."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
        self._answers = self._socket.makefile("rb")

    def send(self, content: bytes, size: int = MIB) -> None:
        """Send content in pieces of a size, as far as the server listens."""
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(content), size):
                self._socket.sendall(content[start : start + size])

    def answer(self) -> Answer:
        """Return the next answer."""
        line = self._answers.readline()
        while line == b"HTTP/1.1 100 Continue\r\n":
            self._answers.readline()
            line = self._answers.readline()
        assert line, "the connection was closed without an answer"
        headers = http.client.parse_headers(self._answers)
        body = self._answers.read(int(headers["Content-Length"]))
        return Answer(int(line.split()[1]), headers["Content-Type"], body)

    def is_closed(self) -> bool:
        """Whether the server ends it, rather than sending more."""
        with contextlib.suppress(ConnectionError):
            return self._answers.read(1) == b""
        return True

    def reset(self) -> None:
        """Break it, as a client does that dies."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()


# --- large heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"X-Large: " + b"x" * 70 * KIB, id="one header that does not end"),
        pytest.param(GET + b"X-Large: " + b"x" * 70 * KIB + b"\r\n\r\n", id="a complete head"),
        pytest.param(GET + b"X-Small: x\r\n" * 7 * KIB, id="many headers"),
        pytest.param(b"GET /processes?limit=" + b"1" * 70 * KIB, id="an address"),
        pytest.param(b"\r\n" * 40 * KIB, id="blank lines"),
    ],
)
@pytest.mark.parametrize("size", [MIB, 10_000], ids=["at once", "in pieces"])
def test_a_head_of_more_than_64_kib_is_refused(server: Server, head: bytes, size: int) -> None:
    with Connection(server) as connection:
        connection.send(head, size)

        assert "65536 bytes" in connection.answer().problem(431)["detail"]
        assert connection.is_closed()


@pytest.mark.parametrize("size", [MIB, 10_000], ids=["at once", "in pieces"])
def test_a_head_of_63_kib_is_read_and_a_large_body_does_not_count(server: Server, size: int) -> None:
    body = b'{"inputs": {"name": "Ada"}}' + b" " * 200 * KIB
    sent = POST + b"X-Large: " + b"x" * 63 * KIB + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    with Connection(server) as connection:
        connection.send(sent, size)

        assert connection.answer().status == 200


def test_requests_that_come_before_the_answer_to_the_first_are_not_one_large_head(server: Server) -> None:
    with Connection(server) as connection:
        connection.send((GET + b"X-Large: " + b"x" * 40 * KIB + b"\r\n\r\n") * 3)

        assert [connection.answer().status for _ in range(3)] == [200, 200, 200]


def test_many_small_requests_at_once_are_not_one_large_head(server: Server) -> None:
    sent = (GET + b"\r\n") * 4000

    with Connection(server) as connection:
        connection.send(sent[:-10])
        time.sleep(0.1)
        connection.send(sent[-10:])

        assert {connection.answer().status for _ in range(4000)} == {200}


def test_a_header_of_200_mib_costs_no_memory(server: Server) -> None:
    process = psutil.Process(server.pid)
    before = process.memory_info().rss

    with Connection(server) as connection:
        connection.send(GET + b"X-Large: " + b"x" * 200 * MIB)

    assert process.memory_info().rss - before < 20 * MIB


@pytest.mark.parametrize("whole", [True, False], ids=["one trailer", "many trailers"])
def test_trailers_of_more_than_64_kib_are_refused(server: Server, *, whole: bool) -> None:
    with Connection(server) as connection:
        connection.send(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        connection.send(b"X-Large: " + b"x" * MIB if whole else b"X-Small: x\r\n" * 80 * KIB)

        connection.answer().problem(431)


# --- requests that stop ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits half a second for the rest of a request."""
    home = tmp_path_factory.mktemp("impatient") / "home"
    with Server(home, environment={"GRATICULE_SERVER__STALL_LIMIT_S": "0.5"}) as running:
        yield running


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(POST + b"Content-Length: 100\r\n\r\n", id="no body"),
        pytest.param(POST + b'Content-Length: 100\r\n\r\n{"inputs"', id="half a body"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", id="no last chunk"),
        pytest.param(GET, id="half a head"),
        pytest.param(b"POST /files?name=a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", id="half a file"),
        pytest.param(FORM + b"Content-Length: 100\r\n\r\n--x\r\n", id="half a form"),
        pytest.param(POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", id="no body after 100"),
    ],
)
def test_a_request_that_stops_is_answered_408(impatient: Server, sent: bytes) -> None:
    with Connection(impatient) as connection:
        connection.send(sent)

        assert "0.5 s" in connection.answer().problem(408)["detail"]
        assert connection.is_closed()
    assert "Traceback" not in impatient.log


def test_a_second_request_that_stops_is_answered_408(impatient: Server) -> None:
    with Connection(impatient) as connection:
        connection.send(GET + b"\r\n")
        assert connection.answer().status == 200

        connection.send(GET)

        connection.answer().problem(408)


def test_a_connection_that_breaks_within_a_request_leaves_nothing_in_the_log(impatient: Server) -> None:
    with Connection(impatient) as connection:
        connection.send(POST + b"Content-Length: 100\r\n\r\n")
        time.sleep(0.1)
        connection.reset()
    time.sleep(0.8)

    assert "Exception" not in impatient.log
    assert "Traceback" not in impatient.log


def test_a_connection_on_which_nothing_comes_is_closed(impatient: Server) -> None:
    with Connection(impatient) as connection:
        start = time.monotonic()

        assert connection.is_closed()

    assert time.monotonic() - start < 10


def test_a_slow_body_that_goes_on_is_awaited(impatient: Server) -> None:
    body = b'{"inputs": {"name": "Ada"}}'

    with Connection(impatient) as connection:
        connection.send(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        for byte in body:
            time.sleep(0.05)
            connection.send(bytes([byte]))

        assert connection.answer().status == 200


def test_a_complete_request_may_take_longer_to_answer(impatient: Server) -> None:
    with client_of(impatient) as http:
        answer = http.post("/processes/echo/execution", json={"inputs": {"message": "hello", "pause": 1}})

    assert answer.status_code == 200


def test_an_answer_that_is_read_slowly_is_not_cut_off_by_a_body_that_never_comes(impatient: Server) -> None:
    with client_of(impatient) as http:
        kept = http.post("/files?name=large.bin", content=b"x" * 8 * MIB).headers["Location"]
    path = urlsplit(kept).path.encode()

    with Connection(impatient) as connection:
        connection.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        time.sleep(1.5)

        assert len(connection.answer().body) == 8 * MIB


def test_a_request_that_stops_makes_no_job(impatient: Server) -> None:
    with Connection(impatient) as connection:
        connection.send(POST + b'Content-Length: 100\r\n\r\n{"inputs": {}}')
        connection.answer().problem(408)

    with client_of(impatient) as http:
        assert [
            job for job in http.get("/jobs?processID=hello-world").json()["jobs"] if job["status"] != "successful"
        ] == []


# --- no HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", "method", id="TLS"),
        pytest.param(b"HELLO\r\n\r\n", "method", id="no request line"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", "version", id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "header", id="no header"),
        pytest.param("GET /größe HTTP/1.1\r\nHost: x\r\n\r\n".encode(), "url", id="an address in UTF-8"),
        pytest.param(b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", "is no URL", id="an address that is none"),
        pytest.param(POST + b"Content-Length: x\r\n\r\n", "Content-Length", id="a length that is none"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nx", "chunk", id="a chunk that is none"),
    ],
)
def test_what_is_no_http_is_answered_by_a_problem(server: Server, sent: bytes, words: str) -> None:
    with Connection(server) as connection:
        connection.send(sent)

        assert words in connection.answer().problem(400)["detail"]
        assert connection.is_closed()


def test_a_server_that_was_sent_all_this_still_answers(http: httpx2.Client) -> None:
    answer = http.post(
        "/processes/echo/execution", json={"inputs": {"message": "hello"}}, headers={"Prefer": "respond-async"}
    )

    assert ended(http, urlsplit(answer.headers["Location"]).path)["status"] == "successful"


# --- hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        pytest.param(b"", "no Host header", id="none"),
        pytest.param(b"Host: a.example\r\nHost: b.example\r\n", "several Host headers", id="two"),
        pytest.param(b"Host: a.example\r\nHost: a.example\r\n", "several Host headers", id="the same twice"),
        pytest.param(b"Host:\r\n", "no name or address", id="empty"),
        pytest.param(b"Host: a.example/path\r\n", "no name or address", id="a path"),
        pytest.param(b'Host: a"><script>\r\n', "no name or address", id="markup"),
        pytest.param(b"Host: ada@a.example\r\n", "no name or address", id="a user"),
        pytest.param(b"Host: a.example:http\r\n", "no name or address", id="a port in words"),
        pytest.param(b"Host: a b\r\n", "no name or address", id="a blank"),
    ],
)
@pytest.mark.parametrize("path", [b"/conformance", b"/jobs", b"/nowhere"])
def test_a_request_names_one_host(server: Server, hosts: bytes, said: str, path: bytes) -> None:
    for _ in range(2):
        with Connection(server) as connection:
            connection.send(b"GET " + path + b" HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")

            assert said in connection.answer().problem(400)["detail"]


@pytest.mark.parametrize("host", [b"localhost", b"a.example:8080", b"[::1]:8080", b"127.0.0.1", b"my_host", b"x:"])
def test_names_and_addresses_of_hosts_are_taken(server: Server, host: bytes) -> None:
    with Connection(server) as connection:
        connection.send(b"GET /conformance HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")

        assert connection.answer().status == 200


def test_the_old_version_needs_no_host(server: Server) -> None:
    with Connection(server) as connection:
        connection.send(b"GET /jobs HTTP/1.0\r\n\r\n")
        assert connection.answer().status == 200
    with Connection(server) as connection:
        connection.send(b"GET /conformance HTTP/1.0\r\n\r\n")
        assert connection.answer().status == 200
