"""Jobs run while what runs them is killed with -9 again and again: none may be lost, doubled or in a false state.

``python -m tests.faults.kills --ledger postgresql --jobs 500 --kills 10`` prints figures; `run` returns them. On SQLite
the server is killed; on PostgreSQL web servers, workers and the database itself, each so many times.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import httpx2
import psutil

from tests.postgres import Postgres
from tests.serving import Server, Worker

PROCESS = Path(__file__).with_name("marking.py")
RUNNING = 20
"""Jobs that run at each kill, at least."""
OPEN = 60
"""Jobs that run or wait at most: enough for each kill, and few enough to be judged one by one."""
EVERY_S = 0.1
"""From one look at the jobs' states to the next."""
TOLD, FORKED = 3, 10
"""Looks in a row after which a state is false: of a job whose process runs or has ended, of one that is to begin."""
STALL_S = 0.05
"""Seconds that the disk takes at least, for what each change of a state waits for, while no look is judged."""
ENDED = ("successful", "failed", "dismissed")


@dataclass
class Figures:
    """What became of the jobs."""

    submitted: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    running_at_kills: list[int] = field(default_factory=list)
    recovered_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By what was killed: until no job was called running that did not run (SQLite: until the next server answered)."""
    limit_s: float = 0.0
    """What a recovery may take: one lease and two seconds."""
    statuses: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    """Jobs of which two processes ran at the same time."""
    false_states: list[str] = field(default_factory=list)
    samples: int = 0
    stalls: int = 0
    """Looks that were not judged, since the disk had other work: a state is told when it is on the disk."""
    sampled_every_s: float = 0.0
    """In the median, while nothing was being killed."""
    seconds: float = 0.0

    @property
    def worst_recovery_s(self) -> float:
        """The longest of all recoveries."""
        return max((seconds for several in self.recovered_s.values() for seconds in several), default=0.0)

    @property
    def reached(self) -> bool:
        """Whether all is as promised."""
        wrong = self.lost or self.doubled or self.false_states or self.worst_recovery_s > self.limit_s
        return not wrong and set(self.statuses) <= set(ENDED) and min(self.running_at_kills, default=0) >= RUNNING

    def __str__(self) -> str:
        recovered = {kind: f"{max(several):.2f} s" for kind, several in self.recovered_s.items()}
        every_ms = self.sampled_every_s * 1000
        ended = sum(self.statuses[status] for status in ENDED)
        lines = [
            f"{self.submitted} jobs, kills {dict(self.kills)}",
            f"running at each kill: {min(self.running_at_kills, default=0)} or more, bar {RUNNING}",
            f"ended: {ended}, {dict(self.statuses)}; begun how often: {dict(sorted(self.attempts.items()))}",
            f"lost: {len(self.lost)}, run twice at once: {len(self.doubled)}, bar 0",
            f"in a false state: {len(self.false_states)}, in {self.samples} samples every {every_ms:.0f} ms, bar 0",
            f"looks not judged, for the disk took more than {STALL_S * 1000:.0f} ms: {self.stalls}",
            f"recovered after at most {recovered}, bar {self.limit_s:g} s; {self.seconds:.0f} s in all",
            "reached" if self.reached else "MISSED",
        ]
        return "\n".join([*lines, *self.lost[:5], *self.doubled[:5], *self.false_states[:5]])


@dataclass(frozen=True)
class Mark:
    """One line of a job."""

    what: str
    name: str
    pid: int
    at: float


def read_marks(path: Path) -> dict[str, list[Mark]]:
    """Return the marks of each job, in the order in which they were left."""
    found: dict[str, list[Mark]] = defaultdict(list)
    for line in path.read_text().splitlines():
        what, name, pid, at = line.split()
        found[name].append(Mark(what, name, int(pid), float(at)))
    return found


def _ended(entries: list[Mark]) -> bool:
    return bool(entries) and entries[-1].what == "end"


def _open_runs(marks: dict[str, list[Mark]]) -> list[Mark]:
    """Return the beginnings without an end whose process lives."""
    last = [entries[-1] for entries in marks.values()]
    return [mark for mark in last if mark.what != "end" and _lives(mark.pid)]


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Fleet(Protocol):
    """The processes that serve and run jobs, as far as a trial needs to know them."""

    kinds: tuple[str, ...]
    """What can be killed."""
    lease_s: float
    shared: bool
    """False: there is one process, and nothing that it held may be called running when the next one answers."""

    @property
    def urls(self) -> list[str]:
        """Where it answers now."""

    def kill(self, kind: str) -> None:
        """Kill one of a kind with -9; return when there is one in its place."""

    def close(self) -> None:
        """End all of them properly."""


class Home:
    """One server on SQLite."""

    kinds = ("server",)
    lease_s = 10.0  # the default
    shared = False

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._workers = workers
        self._server = self._serve(0)

    def _serve(self, port: int) -> Server:
        environment = {"GRATICULE_JOBS__WORKERS": str(self._workers)}
        return Server(self._folder / "home", [str(PROCESS)], environment=environment, port=port).start()

    @property
    def urls(self) -> list[str]:
        return [self._server.url]

    def kill(self, kind: str) -> None:
        port = int(self._server.url.rpartition(":")[2])
        _kill_alone(self._server)
        self._server = self._serve(port)

    def close(self) -> None:
        self._server.stop()


class Cluster:
    """Two web servers and three workers on one PostgreSQL database."""

    kinds = ("web", "agent", "database")
    lease_s = 4.0
    shared = True

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._postgres = Postgres().__enter__()
        self._environment = {
            "GRATICULE_DATABASE__URL": self._postgres.new_database(),
            "GRATICULE_STORAGE__FOLDER": str(folder / "storage"),
            "GRATICULE_JOBS__LEASE_S": str(self.lease_s),
        }
        self._numbers = itertools.count()
        self._turn = itertools.count()
        self._webs = [self._start(Server, 0) for _ in range(2)]
        self._workers = [self._start(Worker, workers // 3) for _ in range(3)]

    def _start(self, kind: type[Server], places: int) -> Server:
        environment = {**self._environment, "GRATICULE_JOBS__WORKERS": str(places)}
        home = self._folder / f"home-{next(self._numbers)}"
        return kind(home, [str(PROCESS)], environment=environment).start()

    @property
    def urls(self) -> list[str]:
        return [web.url for web in self._webs]

    def kill(self, kind: str) -> None:
        if kind == "database":
            self._postgres.kill()
            self._postgres.start()
            return
        fleet, start, places = (self._webs, Server, 0) if kind == "web" else (self._workers, Worker, 8)
        dead = fleet[next(self._turn) % len(fleet)]
        _kill_alone(dead)
        fleet[fleet.index(dead)] = self._start(start, places)

    def close(self) -> None:
        for process in [*self._webs, *self._workers]:
            process.stop()
        self._postgres.__exit__()


def _kill_alone(server: Server) -> None:
    """Kill one process; what it leaves behind is its own affair."""
    psutil.Process(server.pid).kill()
    server.process.wait()


class Trial:
    """A fleet whose processes are killed, and the jobs sent to it."""

    def __init__(self, fleet: Fleet, folder: Path, *, seed: int) -> None:
        self.figures = Figures()
        self.marks = folder / "marks"
        self.marks.touch()
        self.jobs: dict[str, str] = {}
        """Names of acknowledged jobs by their identifiers."""
        self._fleet = fleet
        self._random = random.Random(seed)
        self._done = threading.Event()
        self._calm = threading.Event()
        self._calm.set()
        self._killed = threading.Event()
        self._killed_at = 0.0
        self._ended = 0
        self._failed = 0
        """Jobs that were hit as often as they are tried, and left no mark of their end."""
        self._http = httpx2.Client(timeout=10, trust_env=False, verify=False)  # no certificates to be read

    @property
    def _url(self) -> str:
        return self._random.choice(self._fleet.urls)

    def submit(self, number: int) -> None:
        """Send jobs until `number` are acknowledged and all kills are done; one without an answer is not counted."""
        names = (f"job-{index}" for index in range(10**6))
        lock = threading.Lock()

        def one() -> bool:
            with lock:
                if len(self.jobs) >= number and self._killed.is_set():
                    return False
                if len(self.jobs) - self._ended - self._failed >= OPEN:
                    return True
                name, seconds = next(names), self._random.uniform(0.2, 3)
            inputs = {"name": name, "seconds": round(seconds, 3), "marks": str(self.marks)}
            try:
                answer = self._http.post(
                    f"{self._url}/processes/marking/execution",
                    json={"inputs": inputs},
                    headers={"Prefer": "respond-async"},
                )
                if answer.status_code == 201:
                    with lock:
                        self.jobs[answer.json()["jobID"]] = name
            except httpx2.HTTPError:
                time.sleep(0.1)
            return True

        def sender() -> None:
            while one():
                time.sleep(0.03)

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(sender) for _ in range(4)]:
                future.result()
        self.figures.submitted = len(self.jobs)

    def kill(self, times: int) -> None:
        """Kill one of each kind in turn when enough jobs run, so many times each."""
        for kind in itertools.chain.from_iterable(itertools.repeat(self._fleet.kinds, times)):
            while not self._done.wait(self._random.uniform(0.3, 1.5)):
                running = _open_runs(read_marks(self.marks))
                if len(running) >= RUNNING:
                    break
            else:
                return
            self._calm.clear()
            self.figures.kills[kind] += 1
            self.figures.running_at_kills.append(len(running))
            self._killed_at = time.monotonic()
            self._fleet.kill(kind)
            self._wait_until_it_answers()
            if self._fleet.shared:
                self._wait_until_true()
            self.figures.recovered_s[kind].append(time.monotonic() - self._killed_at)
            with suppress(httpx2.HTTPError):
                self._failed = sum(1 for _ in jobs_of(self._http, self._url, status="failed"))
            self._calm.set()
        self._killed.set()

    def _wait_until_it_answers(self) -> None:
        while True:
            with suppress(httpx2.HTTPError):
                self._http.get(f"{self._url}/jobs", params={"limit": 1}).raise_for_status()
                return
            time.sleep(0.1)

    def _wait_until_true(self) -> None:
        """Wait until no job is called running that does not run; a job that ends just now is called so for a moment."""
        before: set[str] | None = None
        while not self._done.wait(0.1):
            with suppress(httpx2.HTTPError):
                said = self._said_to_run()
                wrong = said - {mark.name for mark in _open_runs(read_marks(self.marks))}
                if before is not None and not wrong & before:
                    return
                before = wrong

    def _said_to_run(self) -> set[str]:
        said = {job["jobID"] for job in jobs_of(self._http, self._url, status="running")}
        return {self.jobs[job] for job in said if job in self.jobs}

    def sample(self) -> None:
        """Compare now and then what the servers say of running jobs with what the operating system shows."""
        suspects: Counter[str] = Counter()
        steps: list[float] = []
        began = last = time.monotonic()
        while not self._done.wait(max(0.0, EVERY_S - (time.monotonic() - began))):
            began = time.monotonic()
            if not self._calm.is_set():
                suspects.clear()
                last = 0.0
                continue
            if self._disk_s() > STALL_S:
                suspects.clear()
                self.figures.stalls += 1
                continue
            try:
                names = self._said_to_run()
            except httpx2.HTTPError:
                continue
            marks = read_marks(self.marks)
            self._ended = sum(entries[-1].what == "end" for entries in marks.values())
            live = {mark.name for mark in _open_runs(marks)}
            if not self._calm.is_set():
                continue
            self.figures.samples += 1
            if last:
                steps.append(began - last)
            last = began
            wrong = (names ^ live) & set(self.jobs.values())
            # Between a process and its news lie some milliseconds, and many that are forked at once take their turns
            # before they leave their first mark: what is wrong that many times in a row is false.
            suspects = Counter({name: suspects[name] + 1 for name in wrong})
            self.figures.false_states += [
                f"{name}: {'said to run' if name in names else 'runs unsaid'},"
                f" {time.time() - marks[name][-1].at:.3f} s after {marks[name][-1]}"
                for name, times in suspects.items()
                if times == (FORKED if name in names and not _ended(marks[name]) else TOLD)
            ]
        self.figures.sampled_every_s = median(steps) if steps else 0.0

    def _disk_s(self) -> float:
        """Return how long the disk takes now to keep a few bytes."""
        began = time.monotonic()
        with self.marks.with_name("probe").open("wb") as file:
            file.write(b"here")
            os.fsync(file.fileno())
        return time.monotonic() - began

    def finish(self, seconds: float) -> None:
        """Wait until all jobs have ended, then judge."""
        deadline = time.monotonic() + seconds
        states: dict[str, dict[str, Any]] = {}
        while time.monotonic() < deadline:
            with suppress(httpx2.HTTPError):
                states = {job["jobID"]: job for job in jobs_of(self._http, self._url)}
            if all(states.get(job, {}).get("status") in ENDED for job in self.jobs):
                break
            time.sleep(0.5)
        self._done.set()
        marks = read_marks(self.marks)
        for job, name in self.jobs.items():
            status = states.get(job, {}).get("status", "unknown")
            self.figures.statuses[status] += 1
            self.figures.attempts[sum(mark.what == "begin" for mark in marks[name])] += 1
            ended_well = any(mark.what == "end" for mark in marks[name])
            if status not in ENDED or (status == "successful" and not ended_well):
                self.figures.lost.append(f"{name} {job}: {status}, {marks[name][-3:]}")
        for name, entries in marks.items():
            self.figures.doubled += [f"{name}: {mark}" for mark in _overlaps(entries)]

    def close(self) -> None:
        """End the fleet."""
        self._done.set()
        self._http.close()
        self._fleet.close()


def _overlaps(entries: list[Mark]) -> Iterator[Mark]:
    """Yield the marks that a process left after another one had begun the same job."""
    current = 0
    for mark in entries:
        if mark.what == "begin":
            current = mark.pid
        elif mark.pid != current:
            yield mark


def jobs_of(client: httpx2.Client, url: str, **filters: str) -> Iterator[dict[str, Any]]:
    """Yield the documents of all jobs of a server, page by page."""
    address: str | None = f"{url}/jobs"
    parameters: dict[str, Any] | None = {"limit": 1000, **filters}
    while address:
        page = client.get(address, params=parameters).raise_for_status().json()
        yield from page["jobs"]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        parameters = None


def run(folder: Path, *, ledger: str, jobs: int, kills: int, workers: int = 24, seed: int = 1) -> Figures:
    """Run a trial in a folder and return its figures."""
    os.sync()  # what others have written need not be waited for meanwhile
    began = time.monotonic()
    fleet: Fleet = Home(folder, workers) if ledger == "sqlite" else Cluster(folder, workers)
    trial = Trial(fleet, folder, seed=seed)
    trial.figures.limit_s = fleet.lease_s + 2
    try:
        threads = [threading.Thread(target=trial.kill, args=(kills,)), threading.Thread(target=trial.sample)]
        for thread in threads:
            thread.start()
        trial.submit(jobs)
        threads[0].join(300)
        trial.finish(seconds=240)
        for thread in threads:
            thread.join()
    finally:
        trial.close()
    trial.figures.seconds = time.monotonic() - began
    return trial.figures


def main() -> None:
    """Print the figures of a trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("GRATICULE_TEST_SEED", "1")))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        print(run(Path(folder), **vars(arguments)))


if __name__ == "__main__":
    main()
