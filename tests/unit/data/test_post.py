"""What is sent to an address that somebody else has named, against real servers on this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from graticule.data.post import ReceiverPolicy, Unsent, post
from tests.receiver import Receiver, receiver

pytestmark = pytest.mark.anyio

HERE = ReceiverPolicy(allow_private_addresses=True, timeout_s=5)
HASTY = ReceiverPolicy(allow_private_addresses=True, timeout_s=0.3)
JSON = {"content-type": "application/json"}


@pytest.fixture
def subscriber() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@asynccontextmanager
async def answering(pieces: list[bytes], pause: float = 0) -> AsyncIterator[str]:
    """Serve an answer in pieces with pauses between them; yield the address."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        writer.close()
        over.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await over.wait()


def pretend(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name resolved to these addresses."""

    def resolve(_: Any, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def test_the_body_arrives_with_its_headers(subscriber: Receiver) -> None:
    status = await post(subscriber.address("/a%20b?c=d#e"), b'{"x":1}', {**JSON, "webhook-id": "7"}, HERE)

    (told,) = subscriber.told
    assert (status, told.path, told.document) == (200, "/a%20b?c=d", {"x": 1})
    assert told.headers["webhook-id"] == "7"
    assert told.headers["host"] == f"127.0.0.1:{subscriber.port}"
    assert told.headers["connection"] == "close"


async def test_a_name_is_resolved_once_and_kept_in_the_host_header(
    subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "127.0.0.1")

    await post(f"http://told.example:{subscriber.port}/x", b"{}", JSON, HERE)

    assert subscriber.told[0].headers["host"] == f"told.example:{subscriber.port}"


async def test_a_name_in_other_letters_is_sent_in_its_ascii_form(
    subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "127.0.0.1")

    await post(f"http://zürich.example:{subscriber.port}/ü", b"{}", JSON, HERE)

    assert subscriber.told[0].headers["host"] == f"xn--zrich-kva.example:{subscriber.port}"
    assert subscriber.told[0].path == "/%C3%BC"


async def test_the_next_address_of_a_name_is_tried_when_one_is_dead(
    subscriber: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "127.0.0.2", "127.0.0.1")  # the receiver listens on the second alone

    assert await post(f"http://told.example:{subscriber.port}/x", b"{}", JSON, HERE) == 200


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("9.9.9.9", "10.0.0.1"), ("169.254.169.254",)])
async def test_a_name_with_a_private_address_is_refused(
    subscriber: Receiver, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    pretend(monkeypatch, *addresses)

    with pytest.raises(Unsent, match="private"):
        await post(
            f"http://told.example:{subscriber.port}/x", b"{}", JSON, ReceiverPolicy(timeout_s=5, allow_http=True)
        )
    assert subscriber.told == []


@pytest.mark.parametrize("allowed", ["told.example", "told.example:{port}"])
async def test_a_host_that_is_allowed_is_told_at_a_private_address_and_by_http(
    subscriber: Receiver, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    pretend(monkeypatch, "127.0.0.1")
    policy = ReceiverPolicy(timeout_s=5, allowed_hosts=frozenset({allowed.format(port=subscriber.port)}))

    assert await post(f"http://told.example:{subscriber.port}/x", b"{}", JSON, policy) == 200
    with pytest.raises(Unsent, match="https"):
        await post(f"http://else.example:{subscriber.port}/x", b"{}", JSON, policy)
    with pytest.raises(Unsent, match="private"):
        await post(f"https://else.example:{subscriber.port}/x", b"{}", JSON, policy)


async def test_a_name_that_nobody_knows_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(Unsent, match="resolved"):
        await post("http://nowhere.example/x", b"{}", JSON, HERE)


async def test_a_name_that_takes_too_long_to_resolve_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        enough.wait(5)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(Unsent, match="within"):
        await post("http://slow.example/x", b"{}", JSON, HASTY)

    enough.set()


async def test_a_redirect_is_an_answer(subscriber: Receiver) -> None:
    subscriber.statuses["/x"] = [302]

    assert await post(subscriber.address("/x"), b"{}", JSON, HERE) == 302
    assert len(subscriber.told) == 1


async def test_where_nobody_listens_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(Unsent, match="cannot be reached"):
        await post(f"http://127.0.0.1:{port}/", b"{}", JSON, HERE)


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        pytest.param([b""], "broke off", id="nothing"),
        pytest.param([b"no HTTP at all\r\n\r\n"], "broke off", id="another protocol"),
    ],
)
async def test_an_answer_that_is_none_is_said_to_be_so(pieces: list[bytes], word: str) -> None:
    async with answering(pieces) as address:
        with pytest.raises(Unsent, match=word):
            await post(address, b"{}", JSON, HERE)


async def test_an_answer_byte_by_byte_does_not_outlast_the_time_limit() -> None:
    async with answering([b"H", b"T", b"T", b"P", b"/", b"1"], pause=0.2) as address:
        began = time.monotonic()
        with pytest.raises(Unsent, match="within"):
            await post(address, b"{}", JSON, HASTY)
        lasted = time.monotonic() - began

    assert lasted < 1


async def test_the_body_of_an_answer_is_not_waited_for() -> None:
    async with answering([b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000000\r\n\r\n", b"x"], pause=0.1) as address:
        assert await post(address, b"{}", JSON, HERE) == 202
