"""What a job leaves on the disk goes, whoever runs the server."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.asking import ended, execute, has_status, leftovers, send, wait_until
from tests.faults.conftest import FAULTY, client_of, full, small_disk
from tests.serving import Server, ServerDidNotStart

_PR_CAPBSET_DROP = 24
_OVERRIDES = (1, 2)
"""The rights of root's to do with files what their modes forbid."""


@contextmanager
def unprivileged(server: Server) -> Iterator[Server]:
    """Start a server that must keep to the modes of files, as one does that is not root's."""

    def start() -> None:
        for right in _OVERRIDES:
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, right, 0, 0, 0)  # for this thread and what it starts
        server.start()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    try:
        yield server
    finally:
        server.kill()


def test_a_folder_that_a_job_has_closed_goes_with_the_job(tmp_path: Path) -> None:
    with unprivileged(Server(tmp_path / "home", [str(FAULTY)])) as server, client_of(server) as http:
        assert ended(http, send(http, "faulty", how="close a folder"))["status"] == "successful"
        wait_until(lambda: not leftovers(server.home))

        job = send(http, "faulty", how="wait, close a folder")
        wait_until(lambda: http.get(f"/jobs/{job}").json().get("progress") == 50)
        assert leftovers(server.home)
        http.delete(f"/jobs/{job}")
        wait_until(lambda: not leftovers(server.home))


def test_a_folder_that_a_job_has_closed_goes_when_its_server_is_killed(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", [str(FAULTY)])
    with unprivileged(server), client_of(server) as http:
        job = send(http, "faulty", how="wait, close a folder")
        wait_until(lambda: http.get(f"/jobs/{job}").json().get("progress") == 50)

    with unprivileged(server), client_of(server) as http:
        http.delete(f"/jobs/{job}")
        has_status(http, job, "dismissed")
        wait_until(lambda: not [path for path in (server.home / "scratch").rglob("closed") if path.parent.name == job])
        wait_until(lambda: not leftovers(server.home))


@pytest.mark.parametrize("mebibytes", [4, 0], ids=["jobs have filled it", "others have filled it"])
def test_a_server_that_is_killed_on_a_full_disk_starts_or_says_what_to_free(tmp_path: Path, mebibytes: int) -> None:
    home = tmp_path / "home"
    server = Server(home, [str(FAULTY)], environment={"GRATICULE_STORAGE__MIN_FREE_MIB": "0"})
    starts = mebibytes > 0 or os.geteuid() != 0  # else there is no disk that could be full
    with small_disk(home):
        server.start()
        with client_of(server) as http:
            hoard = home / "scratch" / "jobs" / send(http, "hoarding", mebibytes=mebibytes) / "hoard"
            wait_until(lambda: hoard.exists() and hoard.stat().st_size == mebibytes << 20)
        with full(home, server):
            server.kill()
            if starts:
                server.start()
            else:
                with pytest.raises(ServerDidNotStart):
                    server.start()
        if not starts:
            assert "free some MiB of the disk" in server.log
            assert "graticule dismiss" in server.log
            assert "Traceback" not in server.log
            server.start()
        with client_of(server) as http:
            assert execute(http, "well").json() == "well"
        server.stop()
