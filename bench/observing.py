"""Measure what noting a request costs: its identifier, its count, and a span where traces are configured.

Prints microseconds of one ``GET /processes`` that is answered from memory, with nothing noted, with what is always
noted, and with traces (sent to nobody: the exporter runs in a thread of its own).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from graticule.runtime.building import build_parts
from graticule.settings import read_settings
from graticule.web.app import Application

ROUNDS, REQUESTS = 15, 2000


def scope() -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"accept", b"*/*"), (b"user-agent", b"bench"), (b"connection", b"keep-alive")]
    return {
        "type": "http", "method": "GET", "path": "/processes", "raw_path": b"/processes", "query_string": b"",
        "scheme": "http", "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
    }  # fmt: skip


async def receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def send(_message: Any) -> None:
    pass


async def measure(endpoint: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "GRATICULE_STORAGE__HOME": str(Path(folder) / "home"),
            "GRATICULE_TELEMETRY__OTLP_ENDPOINT": endpoint,
        }
        parts = await build_parts(read_settings(environ=environ).settings)
        app = Application(parts)
        times: dict[str, list[float]] = {"nothing": [], "noted": []}
        for _ in range(ROUNDS):
            for name, call in (("nothing", app._serve), ("noted", app)):
                began = time.perf_counter()
                for _ in range(REQUESTS):
                    await call(scope(), receive, send)
                times[name].append((time.perf_counter() - began) / REQUESTS * 1e6)
        await parts.close()
    return {name: statistics.median(found) for name, found in times.items()}


async def main() -> None:
    off = await measure("")
    more = off["noted"] - off["nothing"]
    print(f"nothing noted {off['nothing']:.1f} µs, always {off['noted']:.1f} µs: {more:.1f} µs more")
    if "--traces" in sys.argv:
        os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
        on = await measure("http://127.0.0.1:9")
        print(f"with traces {on['noted']:.1f} µs")


if __name__ == "__main__":
    uvloop.run(main())
