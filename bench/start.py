"""From exec to the first answer, and the memory of the idle tree with both workers ready."""

from __future__ import annotations

import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

from servers import Running, graticule, options, tree_rss, verdict

START_BAR_S, MEMORY_BAR_MIB = 1.5, 200


def execute(server: Running) -> None:
    """Run hello-world once."""
    headers = {"Content-Type": "application/json"}
    body = b'{"inputs": {"name": "warm-up"}}'
    sent = urllib.request.Request(f"{server.url}/processes/hello-world/execution", body, headers)
    with urllib.request.urlopen(sent, timeout=60) as answer:
        answer.read()


def starts(count: int) -> dict[str, list[float]]:
    """Return the seconds to the first answer, on a fresh home and on one that was used before."""
    seconds: dict[str, list[float]] = {"fresh home": [], "used home": []}
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
            for taken in seconds.values():
                with graticule(home=Path(folder) / "home") as server:
                    taken.append(server.start_seconds)
                    execute(server)
    return seconds


def idle(wait_s: float) -> tuple[float, float, int]:
    """Return RSS and PSS in MiB and the number of processes, some time after eight executions at once."""
    with graticule(environment={"GRATICULE_JOBS__WORKERS": "2"}) as server:
        threads = [threading.Thread(target=execute, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(wait_s)
        rss, pss, count = tree_rss(server.pid)
    return rss, pss, count


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--wait", type=float, default=30, help="seconds from the executions to the look at the memory")
    arguments = parser.parse_args()
    for name, values in starts(arguments.starts).items():
        middle = median(values)
        spread = f"[{min(values):.2f} .. {max(values):.2f}]"
        print(f"start, {name}: {middle:.2f} s {spread}, bar {START_BAR_S} s  {verdict(middle <= START_BAR_S)}")
    rss, pss, count = idle(arguments.wait)
    print(
        f"idle: PSS {pss:.0f} MiB (RSS {rss:.0f}, {count} processes), bar {MEMORY_BAR_MIB}"
        f"  {verdict(pss <= MEMORY_BAR_MIB)}"
    )


if __name__ == "__main__":
    main()
