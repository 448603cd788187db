"""How much each process grows while large results and logs are made and read, by fast and by slow readers.

First all at once: a job with a log of 200 MB and a result of 2 GB, each read at full speed and at 1 MB/s.
Then results alone: JSON and binary, asynchronous and synchronous.

The figures are growths of the resident memory (VmRSS) in MiB. "server": the process, other than the job's own, that
grew most. "job": the job's own, less the value that it returned.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from servers import Running, children, graticule, options, verdict

BAR_MIB = 16
SLOW_BYTES_S = 1_000_000
SLOW_SECONDS = 10
CHUNK = 1 << 18


def settle(server: Running) -> None:
    """Wait until what the server does after its start is done: samples are made, libraries are loaded ahead."""
    before = -1.0
    time.sleep(6)
    while abs(before - (now := sum(map(resident_mib, [server.pid, *children(server.pid)])))) > 1:
        before = now
        time.sleep(2)


def resident_mib(pid: int) -> float:
    """Return a process's resident memory, 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


class Watch:
    """Sample the resident memory of each process of a tree every 20 ms and keep its first and its greatest value."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.first: dict[int, float] = {}
        self.greatest: dict[int, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def grown(self, own: int) -> float:
        """Return the growth in MiB of the process that grew most, the job's own left out."""
        return max(greatest - self.first[pid] for pid, greatest in list(self.greatest.items()) if pid != own)

    def _run(self) -> None:
        while not self._end.wait(0.02):
            self._sample()

    def _sample(self) -> None:
        for pid in children(self.pid):
            now = resident_mib(pid)
            self.first.setdefault(pid, now)
            self.greatest[pid] = max(now, self.greatest.get(pid, 0.0))


@dataclass(frozen=True)
class Case:
    """One result and the way it is read."""

    kind: str
    megabytes: int
    mode: str
    reader: str


@dataclass(frozen=True)
class Growth:
    """What a case cost."""

    server_mib: float
    job_mib: float
    read: int
    seconds: float


def request(
    server: Running, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send one request and return the answer with its body still to be read."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
    if body is None:
        connection.request(method, path, headers=dict(headers or {}))
    else:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status} {answer.read(2000)!r}")
    return answer


def read(answer: http.client.HTTPResponse, reader: str) -> int:
    """Read a body and return its length: all of it at once, or slowly for `SLOW_SECONDS`."""
    taken, begin = 0, time.perf_counter()
    while chunk := answer.read(CHUNK):
        taken += len(chunk)
        if reader == "slow":
            if time.perf_counter() - begin > SLOW_SECONDS:
                break
            time.sleep(len(chunk) / SLOW_BYTES_S)
    answer.close()
    return taken


def result(server: Running, case: Case, report: Path) -> http.client.HTTPResponse:
    """Run the process and return the answer that carries its result."""
    path = f"/processes/large-{case.kind}/execution"
    body = {
        "inputs": {"megabytes": case.megabytes, "report": str(report)},
        "response": "raw" if case.kind == "binary" else "document",
    }
    if case.mode == "sync":
        return request(server, "POST", path, body)
    return request(server, "GET", f"{successful(server, path, body)}/results")


def successful(server: Running, path: str, body: object) -> str:
    """Run a process asynchronously and return its job's path when it is successful."""
    with request(server, "POST", path, body, {"Prefer": "respond-async"}) as created:
        job = "/jobs/" + json.load(created)["jobID"]
    while True:
        with request(server, "GET", job, headers={"Accept": "application/json"}) as answer:
            status = json.load(answer)
        if status["status"] == "successful":
            return job
        if status["status"] not in {"accepted", "running"}:
            raise SystemExit(f"{path}: {status}")
        time.sleep(0.1)


def measure(server: Running, case: Case) -> Growth:
    """Run one case on a server that has done nothing large before."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder, Watch(server.pid) as watch:
        begin, report = time.perf_counter(), Path(folder) / "report"
        taken = read(result(server, case, report), case.reader)
        seconds = time.perf_counter() - begin
        own, before_kib = map(int, report.read_text(encoding="ascii").split())
    value_mib = case.megabytes * 1_000_000 / 2**20
    return Growth(watch.grown(own), watch.greatest[own] - before_kib / 1024 - value_mib, taken, seconds)


def all_at_once(server: Running, megabytes: int, log_megabytes: int) -> None:
    """Have a job print and write much, read both by two readers each at once, and print what the processes grew."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder, Watch(server.pid) as watch:
        report, begin = Path(folder) / "report", time.perf_counter()
        inputs = {"megabytes": megabytes, "log_megabytes": log_megabytes, "report": str(report)}
        job = successful(server, "/processes/large-file/execution", {"inputs": inputs})
        made = time.perf_counter() - begin
        grown = watch.grown(own := int(report.read_text(encoding="ascii").split()[0]))
        readers = [(path, reader) for path in ("results/result", "logs/process") for reader in ("fast", "slow")]
        with ThreadPoolExecutor(len(readers)) as pool:
            taken = pool.map(lambda one: read(request(server, "GET", f"{job}/{one[0]}"), one[1]), readers)
            for (path, reader), count in zip(readers, taken, strict=True):
                print(f"  {path:14} {reader:6} {count / 1e6:8.1f} MB read")
        most = watch.grown(own)
    print(
        f"all at once: made in {made:.0f} s, grown by {grown:.1f} MiB until then, {most:.1f} MiB at most,"
        f" bar {BAR_MIB} MiB  {verdict(most <= BAR_MIB)}",
        flush=True,
    )


@contextmanager
def settled() -> Iterator[Running]:
    """Run a server that has done nothing large before."""
    plugin = Path(__file__).with_name("large_results.py")
    with graticule(str(plugin), environment={"GRATICULE_SERVER__SYNC_LIMIT_S": "600"}) as server:
        request(server, "POST", "/processes/hello-world/execution", {"inputs": {"name": "warm-up"}}).read()
        settle(server)
        yield server


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[50, 2000])
    parser.add_argument("--together", type=int, nargs=2, default=[2000, 200], help="MB of the result and of the log")
    arguments = parser.parse_args()
    with settled() as server:
        all_at_once(server, *arguments.together)
    print(f"results alone, bar: {BAR_MIB} MiB for each")
    print("result      MB mode   reader         read  seconds  server MiB  job MiB")
    for megabytes in arguments.megabytes:
        for kind in ("json", "binary"):
            for mode, reader in (("async", "fast"), ("async", "slow"), ("sync", "fast"), ("sync", "slow")):
                case = Case(kind, megabytes, mode, reader)
                with settled() as server:
                    growth = measure(server, case)
                most = max(growth.server_mib, growth.job_mib)
                print(
                    f"{kind:8} {megabytes:5} {mode:6} {reader:6} {growth.read:12} {growth.seconds:8.1f}"
                    f" {growth.server_mib:11.1f} {growth.job_mib:8.1f}  {verdict(most <= BAR_MIB)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
