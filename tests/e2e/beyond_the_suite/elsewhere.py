"""Another server: it is told of jobs, and serves rasters good and bad."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.e2e.beyond_the_suite.asking import (
    SECONDS,
)


class Elsewhere(BaseHTTPRequestHandler):
    """Another server: it remembers what is posted to it, and serves what makes trouble."""

    protocol_version = "HTTP/1.1"
    pages: Mapping[str, tuple[str, bytes]] = {}
    posted: list[tuple[str, Any]] = []
    changed = threading.Condition()

    def do_GET(self) -> None:
        if self.path.startswith("/endless"):
            self.send_response(200)
            self.send_header("Content-Type", "image/tiff")
            if self.path == "/endless-and-says-so":
                self.send_header("Content-Length", str(10 << 30))
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                for _ in range(10 << 10):
                    self.wfile.write(b"\0" * (1 << 20))
            return
        if self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Type", "image/tiff")
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                for _ in range(200):
                    self.wfile.write(b"I")
                    time.sleep(0.1)
            return
        content_type, body = self.pages.get(self.path, ("text/plain", b""))
        self.send_response(200 if self.path in self.pages else 404)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.changed:
            self.posted.append((self.path, json.loads(body or b"null")))
            self.changed.notify_all()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def told(prefix: str, last: str) -> dict[str, list[Any]]:
    """Wait until something is posted below a prefix at its last path; return all that was, by path."""

    def mine() -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for path, document in Elsewhere.posted:
            if path.startswith(prefix):
                found.setdefault(path.removeprefix(prefix), []).append(document)
        return found

    with Elsewhere.changed:
        assert Elsewhere.changed.wait_for(lambda: last in mine(), SECONDS), f"{prefix}{last} was not told"
        return mine()


def write_raster(file: Path, crs: str | None) -> None:
    """Write 64 x 64 pixels of one band."""
    import warnings

    import numpy as np
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    values = np.arange(64 * 64, dtype="float32").reshape(64, 64)
    profile: dict[str, Any] = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "float32"}
    if crs is not None:
        profile |= {"crs": crs, "transform": rasterio.Affine(0.01, 0, 7, 0, -0.01, 48)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(file, "w", **profile) as raster:
            raster.write(values, 1)
