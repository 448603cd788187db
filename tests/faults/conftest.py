"""Sources that make trouble, and a server whose scratch folder is a small disk of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.e2e.beyond_the_suite.elsewhere import write_raster
from tests.serving import Server

FAULTY = Path(__file__).with_name("faulty.py")
DISK_MIB = 24
SETTINGS = """
[security]
allow_private_addresses = true
reference_max_mib = 1
reference_timeout_s = 1

[processes.hungry]
memory_limit_mib = 300

[processes.hoarding]
disk_limit_mib = 8

[processes.chatty]
log_limit_mib = 2
"""


class Source(BaseHTTPRequestHandler):
    """Serves rasters that are damaged, and answers that nobody wants."""

    protocol_version = "HTTP/1.1"
    pages: dict[str, bytes] = {}

    def do_GET(self) -> None:
        if self.path == "/silent.tif":
            time.sleep(5)
        body = self.pages.get(self.path, b"")
        self.send_response(503 if self.path == "/busy.tif" else 200 if body else 404)
        self.send_header("Content-Type", "image/tiff")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has rasters."""
    folder = tmp_path_factory.mktemp("source")
    write_raster(folder / "good.tif", "EPSG:4326")
    write_raster(folder / "bare.tif", None)
    good = (folder / "good.tif").read_bytes()
    Source.pages = {
        "/good.tif": good,
        "/truncated.tif": good[:600],
        "/bare.tif": (folder / "bare.tif").read_bytes(),
        "/large.tif": bytes(2 << 20),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Source)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who was waited for too long has gone
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Make a folder a disk of a few MiB, for those who may."""
    if os.geteuid() != 0:
        yield
        return
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "graticule-test", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path, server: Server, *, whole: bool = False) -> Iterator[None]:
    """Fill a small disk up to the last byte for a while, for the jobs of a server or, as a whole, for itself too."""
    if os.geteuid() != 0:  # the next best: no file may grow
        below = psutil.Process(server.pid).children(recursive=True)
        below += [psutil.Process(server.pid)] if whole else []
        for process in below:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        yield
        for process in below:
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return
    with (disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    (disk / "fill").unlink()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the processes of ``faulty.py``, where scratch files find little room."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "graticule.toml").write_text(SETTINGS)
    home = folder / "home"
    server = Server(home, [str(FAULTY), "--config", str(folder / "graticule.toml")])
    with small_disk(home / "scratch"), server:
        if os.geteuid() != 0:  # the next best: no file may become larger
            (forkserver,) = psutil.Process(server.pid).children()
            resource.prlimit(forkserver.pid, resource.RLIMIT_FSIZE, (DISK_MIB << 20, DISK_MIB << 20))
        yield server


@pytest.fixture(scope="module")
def http(faulty: Server) -> Iterator[httpx2.Client]:
    """A client of it."""
    with client_of(faulty) as client:
        yield client


def client_of(server: Server) -> httpx2.Client:
    """Return a client that asks for JSON."""
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})
