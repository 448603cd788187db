"""A plug-in with a thousand processes: what it costs at the start, and how fast its documents are."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from servers import Client, Running, graticule, loop_run, options, p95, times_ms, verdict

START_BAR_S, P95_BAR_MS = 3.0, 5.0

HEAD = '''"""Generated: many processes."""

from typing import Annotated, Literal

from graticule import process
from pydantic import Field
'''

ONE = '''

@process
def process_{number}(
    name: str, factor: Annotated[float, Field(ge=0, le=100)] = 1.0, mode: Literal["fast", "exact"] = "fast",
    values: list[int] = [],
) -> str:
    """Answer as number {number}.

    Parameters
    ----------
    name : str
        Who asks.
    factor : float
        A factor.
    """
    return f"{{name}} {{factor}} {{mode}} {{values}}"
'''


def write_plugin(file: Path, count: int) -> Path:
    """Write a plug-in with that many processes."""
    file.write_text(HEAD + "".join(ONE.format(number=number) for number in range(count)), encoding="utf-8")
    return file


async def until_served(server: Running, process: str) -> float:
    """Return the seconds from exec until a process is described."""
    client, begin = Client(server.url), time.perf_counter()
    while (await client.request("GET", f"/processes/{process}"))[0] != 200:
        if time.perf_counter() - begin > 120:
            raise SystemExit(f"{server.url} does not serve {process}")
        await asyncio.sleep(0.01)
    await client.close()
    return server.start_seconds + time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--processes", type=int, default=1000)
    arguments = parser.parse_args()
    none, many = [], []
    with tempfile.TemporaryDirectory(prefix="bench-many-") as folder:
        plugin = write_plugin(Path(folder) / "many_processes.py", arguments.processes)
        last = f"process-{arguments.processes - 1}"
        for _ in range(arguments.rounds):
            with graticule() as server:
                none.append(loop_run(until_served(server, "hello-world")))
            with graticule(str(plugin)) as server:
                many.append(loop_run(until_served(server, last)))
        more = median(many) - median(none)
        print(f"start: {median(many):.2f} s with {arguments.processes} processes, {median(none):.2f} s with none")
        print(f"start: {more:.2f} s more, bar {START_BAR_S} s  {verdict(more <= START_BAR_S)}")
        with graticule(str(plugin)) as server:
            loop_run(until_served(server, last))
            step = max(1, arguments.processes // 200)
            cases = {
                "a page of the list": ["/processes"] * 200,
                "a description": [f"/processes/process-{number}" for number in range(0, arguments.processes, step)],
            }
            for name, paths in cases.items():
                first, *later = loop_run(times_ms(server, paths))
                print(
                    f"{name}: p95 {p95(later):.2f} ms, median {median(later):.2f} ms, the first {first:.1f} ms,"
                    f" bar {P95_BAR_MS} ms  {verdict(p95(later) <= P95_BAR_MS)}"
                )
            first, *later = loop_run(times_ms(server, ["/api"] * 60))
            from_bytes = median(later) < first / 10
            print(
                f"/api: the first {first:.0f} ms, then median {median(later):.1f} ms, p95 {p95(later):.1f} ms,"
                f" bar: built once, then from bytes  {verdict(from_bytes)}"
            )


if __name__ == "__main__":
    main()
