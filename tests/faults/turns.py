"""Many jobs of one actor and a single one of another: never more run than may, and the single one begins next.

``python -m tests.faults.turns --jobs 300`` prints figures; `run` returns them. How many run is judged
by the marks that the jobs leave.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx2

from tests.faults.asking import send
from tests.faults.kills import ENDED, jobs_of, read_marks
from tests.postgres import Postgres
from tests.serving import Server

PROCESS = Path(__file__).with_name("marking.py")
CAP = 2
PLACES = 4
"""Places for jobs, more than may be taken."""
SECONDS = 0.1
"""What a job takes."""
TOKENS = "".join(
    f'[[security.tokens]]\nactor = "{actor}"\nsha256 = "{hashlib.sha256(actor.encode()).hexdigest()}"\n'
    for actor in ("ada", "ben")
)


@dataclass
class Figures:
    """What became of the jobs."""

    statuses: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    before: int = 0
    """Jobs of the one actor that waited when the other's was sent."""
    overtook: int = 0
    """How many of those began after the other's job was acknowledged and before it began."""
    began_after_s: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        reached = self.most_at_once <= CAP and not self.overtook and set(self.statuses) == {"successful"}
        return (
            f"{sum(self.statuses.values())} jobs of {SECONDS} s: {dict(self.statuses)} in {self.seconds:.0f} s\n"
            f"at most {self.most_at_once} ran at once, bar {CAP}\n"
            f"one job behind {self.before} of another actor began {self.began_after_s:.2f} s after it was acknowledged,"
            f" {self.overtook} others before it, bar 0  {'reached' if reached else 'MISSED'}"
        )


def run(folder: Path, *, ledger: str, jobs: int) -> Figures:
    """Send two thirds of the jobs, then the other actor's one, then the rest; return the figures."""
    settings = {"GRATICULE_JOBS__WORKERS": str(PLACES), "GRATICULE_JOBS__MAX_RUNNING": str(CAP)}
    if ledger == "sqlite":
        return _run(folder, jobs, settings)
    with Postgres() as postgres:
        return _run(folder, jobs, {**settings, "GRATICULE_DATABASE__URL": postgres.new_database()})


def _run(folder: Path, jobs: int, settings: dict[str, str]) -> Figures:
    figures, began, marks = Figures(), time.monotonic(), folder / "marks"
    (folder / "tokens.toml").write_text(TOKENS)
    marks.touch()
    arguments = [str(PROCESS), "--config", str(folder / "tokens.toml")]
    with (
        Server(folder / "home", arguments, environment=settings) as server,
        _client(server, "ada") as ada,
        _client(server, "ben") as ben,
    ):

        def mark(http: httpx2.Client, name: str) -> None:
            send(http, "marking", name=name, seconds=SECONDS, marks=str(marks))

        first = jobs * 2 // 3
        for number in range(first):
            mark(ada, f"ada-{number}")
        figures.before = first - len(read_marks(marks))
        mark(ben, "ben")
        acknowledged = time.time()
        for number in range(first, jobs - 1):
            mark(ada, f"ada-{number}")
        deadline = time.monotonic() + 60 + jobs
        while time.monotonic() < deadline:
            found = [job for http in (ben, ada) for job in jobs_of(http, server.url)]
            figures.statuses = Counter(job["status"] for job in found)
            if set(figures.statuses) <= set(ENDED):
                break
            time.sleep(0.3)
    figures.most_at_once = most_at_once(marks)
    # By when it was chosen: before its process leaves a mark some time goes by, in which others may be sent.
    started = [datetime.fromisoformat(job["started"]).timestamp() for job in found]  # Ben's is the first one
    figures.began_after_s = started[0] - acknowledged
    figures.overtook = sum(acknowledged < at < started[0] for at in started)
    figures.seconds = time.monotonic() - began
    return figures


def most_at_once(path: Path) -> int:
    """Return how many jobs ran at the same time at most, by their marks."""
    marks = [mark for entries in read_marks(path).values() for mark in entries if mark.what != "beat"]
    running = most = 0
    for mark in sorted(marks, key=lambda mark: mark.at):
        running += 1 if mark.what == "begin" else -1
        most = max(most, running)
    return most


def _client(server: Server, actor: str) -> httpx2.Client:
    headers = {"Accept": "application/json", "Authorization": f"Bearer {actor}"}
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers=headers)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--jobs", type=int, default=300)
    with tempfile.TemporaryDirectory(prefix="turns-") as folder:
        print(run(Path(folder), **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
