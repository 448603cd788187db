"""Jobs that do not want to end are dismissed: how long until nothing of them goes on.

``python -m tests.faults.silence --jobs 10`` prints figures; `run` returns them. The job ignores SIGTERM in native code;
its grandchild, in a session of its own and with another parent, writes a heartbeat.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx2

from tests.faults.asking import leftovers, send, wait_until
from tests.serving import Server

PROCESSES = Path(__file__).with_name("faulty.py")
SILENT_S = 3.0
"""Within this a dismissed job is silent."""
WATCHED_S = SILENT_S + 0.5


@dataclass
class Figures:
    """What became of the jobs."""

    silent_after_s: list[float] = field(default_factory=list)
    """From sending DELETE to the last heartbeat."""
    answered_after_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    """All that was said of the jobs after they were dismissed."""
    left: list[str] = field(default_factory=list)
    """Folders that were still there when the job had to be silent."""

    def __str__(self) -> str:
        reached = max(self.silent_after_s) <= SILENT_S and set(self.statuses) == {"dismissed"} and not self.left
        return (
            f"{len(self.silent_after_s)} jobs were silent after {median(self.silent_after_s):.2f} s,"
            f" at most {max(self.silent_after_s):.2f} s, bar {SILENT_S:g} s;"
            f" DELETE was answered after at most {max(self.answered_after_s):.2f} s\n"
            f"status since then: {', '.join(self.statuses)}; folders left: {len(self.left)}"
            f"  {'reached' if reached else 'MISSED'}"
        )


def dismiss(http: httpx2.Client, heartbeat: Path, figures: Figures) -> None:
    """Have a job run, dismiss it, and watch for as long as it may go on, and a little longer."""
    job = send(http, "stubborn", heartbeat=str(heartbeat))
    wait_until(heartbeat.exists)
    sent = time.time()
    http.delete(f"/jobs/{job}").raise_for_status()
    figures.answered_after_s.append(time.time() - sent)
    while time.time() < sent + WATCHED_S:
        figures.statuses[http.get(f"/jobs/{job}").json()["status"]] += 1
        time.sleep(0.05)
    # the moment of the last heartbeat; the file is empty if its writer was killed just then
    text = heartbeat.read_text()
    figures.silent_after_s.append((float(text) if text else heartbeat.stat().st_mtime) - sent)


def run(folder: Path, *, jobs: int, config: Path | None = None) -> Figures:
    """Dismiss so many jobs, one after the other, and return the figures."""
    figures = Figures()
    arguments = [str(PROCESSES), *(["--config", str(config)] if config else [])]
    with (
        Server(folder / "home", arguments) as server,
        httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as http,
    ):
        for number in range(jobs):
            dismiss(http, folder / f"heartbeat-{number}", figures)
            figures.left += leftovers(server.home)
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--config", type=Path, help="settings of the server, such as where jobs run")
    with tempfile.TemporaryDirectory(prefix="silence-") as folder:
        print(run(Path(folder), **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
