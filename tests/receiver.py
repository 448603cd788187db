"""A subscriber: it remembers what it is told, and answers as it is asked to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 10
"""How long a test waits for something to be told."""


@dataclass(frozen=True)
class Told:
    """One request."""

    path: str
    headers: Mapping[str, str]
    document: Any
    body: bytes
    moment: float
    status: int


@dataclass
class Receiver:
    """What a subscriber has heard, and what it answers: 200, or the next status of those given for a path."""

    port: int = 0
    told: list[Told] = field(default_factory=list)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    delays: dict[str, float] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Told]:
        """Return what was told at a path."""
        return [told for told in self.told if told.path == path]

    def wait(self, path: str, times: int = 1) -> list[Told]:
        """Wait until a path was told so many times."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.at(path)) >= times, SECONDS), [t.path for t in self.told]
            return self.at(path)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a subscriber in a thread."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(found.delays.get(self.path, 0))
            with found.changed:
                scripted = found.statuses.get(self.path)
                status = scripted.pop(0) if scripted else 200
                headers = {name.lower(): value for name, value in self.headers.items()}
                found.told.append(Told(self.path, headers, json.loads(body or b"null"), body, time.monotonic(), status))
                found.changed.notify_all()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", found.address("/elsewhere"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
