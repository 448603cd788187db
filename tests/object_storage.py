"""A real object storage in a process of its own: versitygw, which checks signatures; its files are files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from graticule.data.storages.s3 import Bucket

ACCESS_KEY = "graticule-tests"
SECRET_KEY = "known-to-the-tests-alone"
START_SECONDS = 20


class StorageDidNotStart(Exception):
    """The object storage is not installed, or ended before it answered."""


@dataclass
class ObjectStorage:
    """versitygw on a folder and a free port; a context manager."""

    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str) -> Path:
        """Make a bucket and return its folder."""
        place = self.folder / "buckets" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def place(self, bucket: str, prefix: str = "") -> Bucket:
        """Return where a bucket is, with the right key."""
        return Bucket(
            name=bucket, prefix=prefix, endpoint=self.endpoint, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY
        )

    def settings(self, bucket: str, prefix: str = "", **others: object) -> Mapping[str, str]:
        """Return the variables of a server that keeps its files in a bucket."""
        self.bucket(bucket)
        values = {
            "url": f"s3://{bucket}/{prefix}".rstrip("/"),
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            **others,
        }
        return {f"GRATICULE_STORAGE__{name.upper()}": str(value) for name, value in values.items()}

    def start(self) -> Self:
        """Start it, on the port it had before if it had one, and wait until it answers."""
        command = os.environ.get("GRATICULE_TEST_VERSITYGW") or shutil.which(
            "versitygw", path=str(Path(sys.executable).parent)
        )
        if not command:
            raise StorageDidNotStart("versitygw is not there; `make test` installs it (scripts/install-versitygw)")
        self.port = self.port or _free_port()
        buckets = self.folder / "buckets"
        buckets.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [command, "--port", f"127.0.0.1:{self.port}", "--quiet", "--keep-alive", "posix", str(buckets)],
                env={"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self.stop()
        raise StorageDidNotStart((self.folder / "log").read_text(errors="replace"))

    def stop(self) -> None:
        """End it; what it keeps stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
