"""Jobs are dismissed just when they finish: each has one state, for ever, and results exactly if it is successful.

``python -m tests.faults.races --races 100`` prints figures; `run` returns them. Whoever dismisses asks first whether
the job still runs, as a person does, and sends DELETE at once if so. What has finished before DELETE arrives is
removed, as the standard has it; what was found to be finished stays.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.faults.asking import ended, leftovers, living, send, wait_until
from tests.postgres import Postgres
from tests.serving import Server

PROCESS = Path(__file__).with_name("marking.py")
ENOUGH = 20
"""So many of 100 races are to end successful, and so many dismissed."""
SECONDS = 0.05
"""How long a job takes by itself."""
STEPS_S = (0.016, 0.001)
"""How much later the next job is dismissed when this one was in time, and how much earlier when not: the first step,
and the least one; each time that the moment of the finish was passed the step becomes half as long."""
SPREAD_S = 0.004
"""How far around the moment of the finish the races are spread."""
LATER_S = 1.0
WARM_UP = 5


@dataclass
class Figures:
    """What became of the races."""

    states: Counter[str] = field(default_factory=Counter)
    """``removed``: the job had finished before DELETE arrived, which then took its record."""
    contradicted: list[str] = field(default_factory=list)
    """Jobs whose state at once is another one than was answered."""
    changed: dict[str, list[str]] = field(default_factory=dict)
    """Jobs whose state was another one, by when that was."""
    wrong_results: list[str] = field(default_factory=list)
    """Jobs that have results, or files of them, and are not successful, or the other way round."""
    left: list[str] = field(default_factory=list)
    """Processes that outlived the server, and files in the folder where jobs run."""
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether all is as promised; a share of both ends belongs to it."""
        least = min(self.states["successful"], self.states["dismissed"])
        wrong = self.contradicted or any(self.changed.values()) or self.wrong_results or self.left
        return not wrong and least * 100 >= ENOUGH * sum(self.states.values())

    def __str__(self) -> str:
        changed = ", ".join(f"{when} {len(jobs)}" for when, jobs in self.changed.items())
        lines = [
            f"{sum(self.states.values())} races: {dict(self.states)}; bar: {ENOUGH} of 100 of both ends",
            f"in another state than answered: {len(self.contradicted)}; in another one {changed}",
            f"results that should not be there, or are not: {len(self.wrong_results)}",
            f"processes and files left: {len(self.left)}; {self.seconds:.0f} s in all",
            "reached" if self.reached else "MISSED",
        ]
        wrong = (self.contradicted, *self.changed.values(), self.wrong_results, self.left)
        return "\n".join([*lines, *(one for several in wrong for one in several[:5])])


def state_of(http: httpx2.Client, job: str) -> str:
    """Return what is said of a job now."""
    answer = http.get(f"/jobs/{job}")
    return "removed" if answer.status_code == 410 else str(answer.json().get("status", answer.status_code))


def race(http: httpx2.Client, delay: float) -> tuple[str, str]:
    """Have a job run and dismiss it after a while; return it and the state that the answers have told."""
    began = time.perf_counter()
    job = send(http, "racing", seconds=SECONDS)
    while time.perf_counter() < began + delay:
        time.sleep(0.0002)
    if (state := state_of(http, job)) not in ("accepted", "running"):
        return job, state
    answer = http.delete(f"/jobs/{job}")
    if answer.status_code == 409:
        return job, "successful"
    return job, "removed" if "removed" in answer.json().get("message", "") else str(answer.json()["status"])


def check_results(http: httpx2.Client, files: set[str], told: dict[str, str]) -> list[str]:
    """Return the jobs of which results exist although they are not successful, or the other way round."""
    wrong = []
    for job, state in told.items():
        answer = http.get(f"/jobs/{job}/results", headers={"Accept": "*/*"}, follow_redirects=True)
        there = (answer.status_code == 200, job in files)
        if there != ((state == "successful"),) * 2:
            wrong.append(f"{job} is {state}; results are to be had, and lie in storage: {there}")
    return wrong


def stored(storage: Path, jobs: dict[str, str]) -> set[str]:
    """Return the jobs of which storage has an output."""
    places = [str(path) for path in storage.rglob("*") if path.is_file() and path.stat().st_size >= 100_000]
    return {job for job in jobs if any(job in place for place in places)}


def run(folder: Path, *, ledger: str, races: int, seed: int = 1) -> Figures:
    """Run so many races in a folder and return the figures."""
    if ledger == "sqlite":
        return _run(folder, races, seed, {})
    with Postgres() as postgres:
        return _run(folder, races, seed, {"GRATICULE_DATABASE__URL": postgres.new_database()})


def _run(folder: Path, races: int, seed: int, environment: dict[str, str]) -> Figures:
    figures, chance, began = Figures(), random.Random(seed), time.monotonic()
    first = Server(folder / "home", [str(PROCESS)], environment=environment).start()
    told: dict[str, str] = {}
    try:
        with _client(first) as http:
            taken = [_finish_s(http) for _ in range(WARM_UP)]
            delay, (step, least), before = min(taken), STEPS_S, ""
            for _ in range(races):
                job, state = race(http, max(0.0, delay + chance.uniform(-SPREAD_S, SPREAD_S)))
                if before and (before == "dismissed") != (state == "dismissed"):
                    step = max(least, step / 2)
                delay, before = delay + (step if state == "dismissed" else -step), state
                told[job] = state
                if (now := state_of(http, job)) != state:
                    figures.contradicted.append(f"{job}: {state}, then {now}")
            figures.states = Counter(told.values())
            time.sleep(LATER_S)
            figures.changed[f"after {LATER_S:g} s"] = _changed(http, told)
            wait_until(lambda: not leftovers(first.home), seconds=10)
            figures.wrong_results = check_results(http, stored(first.home, told), told)
    finally:
        first.process.kill()
        first.process.wait()
    time.sleep(LATER_S)
    figures.left = [str(process) for process in living(first.home)]
    with Server(first.home, [str(PROCESS)], environment=environment) as second, _client(second) as http:
        figures.changed["after a restart"] = _changed(http, told)
        figures.wrong_results += check_results(http, stored(second.home, told), told)
        figures.left += leftovers(second.home)
    figures.seconds = time.monotonic() - began
    return figures


def _client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers={"Accept": "application/json"})


def _finish_s(http: httpx2.Client) -> float:
    """Return how long a job takes that nobody dismisses."""
    began = time.perf_counter()
    ended(http, send(http, "racing", seconds=SECONDS))
    return time.perf_counter() - began


def _changed(http: httpx2.Client, told: dict[str, str]) -> list[str]:
    found = {job: state_of(http, job) for job in told}
    return [f"{job}: {told[job]}, then {state}" for job, state in found.items() if state != told[job]]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        print(run(Path(folder), **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
