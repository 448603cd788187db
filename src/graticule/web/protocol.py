"""How requests arrive: uvicorn's protocol with the bounds that it lacks, and problem documents for what is no request.

What is refused here never reaches the application.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from graticule.errors import GraticuleError, HeadTooLarge, MalformedRequest, RequestStalled
from graticule.ogc.common import PROBLEM_JSON
from graticule.web.problems import problem_of

HEAD_BYTES = 64 << 10
"""Bytes that the head of a request may have, address and headers together; what follows a chunked body counts too."""


class Protocol(HttpToolsProtocol):
    """One connection.

    Parameters
    ----------
    stall_limit_s : float
        Seconds that a request may stand still before it is complete.
    **connection
        What uvicorn gives to every protocol.
    """

    def __init__(self, *, stall_limit_s: float, **connection: Any) -> None:
        super().__init__(**connection)
        self._stall_limit_s = stall_limit_s
        self._beside = 0
        """Bytes of a request that is not complete, since it began or since its body last went on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_more()

    def data_received(self, data: bytes) -> None:
        if self._beside + len(data) > HEAD_BYTES and not self._in_body:
            data = self._after_head(data)
            if not data:
                return
        before = self.cycle
        self._beside += len(data)
        super().data_received(data)
        cycle = self.cycle
        complete = cycle and not cycle.more_body and not cycle.response_complete and cycle.scope is self.scope
        # Of what came behind the end of a head, less than one reading, nobody knows how much belongs to which request.
        if complete or cycle is not before:
            self._beside = 0
        if not complete:
            self._go_on()

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest(_reason(sys.exception()) or msg))

    @property
    def _in_head(self) -> bool:
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def _in_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body and self.cycle.scope is self.scope

    @property
    def _answered(self) -> bool:
        """Whether an answer has begun that stands where a refusal would."""
        cycle = self.cycle
        return cycle is not None and cycle.response_started and not (cycle.response_complete and self._in_head)

    def _after_head(self, data: bytes) -> bytes:
        """Read as much as a head may have; return the rest if one ended there, else refuse it and return nothing."""
        room, before = HEAD_BYTES - self._beside, self.cycle
        super().data_received(data[:room])
        self._beside = 0
        if not self.transport.is_closing() and self.cycle is before:
            self._refuse(HeadTooLarge(HEAD_BYTES))
        return b"" if self.transport.is_closing() else data[room:]

    def _go_on(self) -> None:
        """Wait for the rest of a request."""
        if self._beside > HEAD_BYTES:
            self._refuse(HeadTooLarge(HEAD_BYTES))
        if not self.transport.is_closing():
            self._await_more()

    def _await_more(self) -> None:
        # Whatever arrives next ends this timer, as does the end of an answer, which sets one of its own.
        self.timeout_keep_alive_task = self.loop.call_later(self._stall_limit_s, self._stalled)

    def _stalled(self) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete and (cycle.response_started or self._in_head)
        if self.flow.read_paused or answering:
            self._await_more()
        elif self.scope is None or self._answered:
            self.transport.close()
        else:
            self._refuse(RequestStalled(self._stall_limit_s))

    def _refuse(self, error: GraticuleError) -> None:
        """End the connection, with an answer if none has begun."""
        if not self._answered:
            row, document = problem_of(error)
            body = msgspec.json.encode(document)
            headers = [
                *self.server_state.default_headers,
                (b"content-type", PROBLEM_JSON.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[row.status] + lines + b"\r\n" + body)
        self.transport.close()


def _reason(error: BaseException | None) -> str:
    """Return what the parser says of bytes that it cannot read."""
    if isinstance(error, httptools.HttpParserCallbackError):
        # It found a head, and uvicorn could not take the address in it apart.
        return "its address is no URL; send a path such as /processes"
    return str(error or "")
