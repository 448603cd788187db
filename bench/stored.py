"""How long it takes to list jobs and to read one of 100 000, and whether late pages are as fast as early ones.

Prints milliseconds on SQLite and PostgreSQL: p95 of each kind of request, by one client on one connection.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlsplit

from servers import Client, Postgres, Running, graticule, loop_run, options, p95, times_ms, verdict
from stores import fill_postgresql, fill_sqlite, stored_jobs

BAR_MS = 5.0
PAGE = 100
"""Jobs of a page: 100 000 of them are 1000 pages."""
EDGE = 50
"""So many pages at the beginning are compared with as many at the end."""
TIMES_AS_LONG = 1.2
"""What a late page may take of what an early one takes, and still be called as fast."""
SELDOM = "cleo"
TOKENS = "".join(
    f'[[security.tokens]]\nactor = "{actor}"\nsha256 = "{hashlib.sha256(actor.encode()).hexdigest()}"\n'
    for actor in ("ada", SELDOM)
)


@contextmanager
def filled(ledger: str, count: int) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield a home, and the variables of a server on it, whose ledger has so many jobs."""
    with tempfile.TemporaryDirectory(prefix="bench-stored-") as folder:
        home = Path(folder) / "home"
        if ledger == "sqlite":
            fill_sqlite(home, count)
            yield home, {}
            return
        with Postgres() as postgres:
            database = postgres.new_database()
            fill_postgresql(database, count)
            yield home, {"GRATICULE_DATABASE__URL": database}


def lists(count: int) -> dict[str, str]:
    """Return the addresses of lists, what they show by what is looked for."""
    jobs = list(stored_jobs(count))
    moments = [quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.created // 10**6))) for job in jobs]
    middle, some = len(jobs) // 2, max(1, len(jobs) // 1000)
    return {
        "GET /jobs": "/jobs",
        "status=successful": "/jobs?status=successful",
        "status=failed (1 of 1000)": "/jobs?status=failed",
        "status=running (none)": "/jobs?status=running",
        "processID=echo": "/jobs?processID=echo",
        "processID=reproject (1 of 1000)": "/jobs?processID=reproject",
        "datetime: the oldest ones": f"/jobs?datetime=../{moments[some]}",
        "datetime: some in the middle": f"/jobs?datetime={moments[middle]}/{moments[middle + some]}",
        "datetime: the newest ones": f"/jobs?datetime={moments[-some]}/..",
        "status and process, seldom": "/jobs?status=failed&processID=reproject",
        "status and process, never": "/jobs?status=failed&processID=echo",
        "status=accepted,running (none)": "/jobs?status=accepted,running",
        "status=failed,successful": "/jobs?status=failed,successful",
        "processID=reproject,buffer": "/jobs?processID=reproject,buffer",
        "processID=hello-world,echo": "/jobs?processID=hello-world,echo",
    }


async def pages(server: Running) -> list[str]:
    """Follow the links to the next page from the first to the last, and return the address of each page."""
    client, found, path = Client(server.url, timeout=60), [], f"/jobs?limit={PAGE}"
    while path:
        found.append(path)
        _, _, body = await client.request("GET", path)
        links = json.loads(body)["links"]
        address = urlsplit(next((link["href"] for link in links if link["rel"] == "next"), ""))
        path = f"{address.path}?{address.query}" if address.path else ""
    await client.close()
    return found


def tell(ledger: str, what: str, taken: list[float]) -> None:
    """Print the figures of one kind of request."""
    figures = f"p95 {p95(taken):7.2f} ms, median {median(taken):7.2f} ms, most {max(taken):7.2f} ms"
    print(f"{ledger:11} {what:34} {figures}, bar {BAR_MS} ms  {verdict(p95(taken) <= BAR_MS)}", flush=True)


def measure(ledger: str, arguments: argparse.Namespace) -> None:
    """Fill a ledger, and ask a server on it."""
    with filled(ledger, arguments.jobs) as (home, environment):
        names = random.Random(2).sample([job.id for job in stored_jobs(arguments.jobs)], 200)
        with graticule(home=home, environment=environment) as server:
            loop_run(times_ms(server, ["/jobs"] * 20))
            tell(ledger, "GET /jobs/{id}", loop_run(times_ms(server, [f"/jobs/{name}" for name in names])))
            for what, path in lists(arguments.jobs).items():
                tell(ledger, what, loop_run(times_ms(server, [path] * arguments.requests)))
            found = loop_run(pages(server))
            edges = [path for both in zip(found[:EDGE], found[-EDGE:], strict=True) for path in both]
            taken = loop_run(times_ms(server, edges))  # in turn, so that the machine is in the same mood
            early, late = median(taken[::2]), median(taken[1::2])
            print(
                f"{ledger:11} {len(found)} pages of {PAGE}: {early:.2f} ms at the beginning, {late:.2f} ms at the end,"
                f" bar {TIMES_AS_LONG} x  {verdict(late <= TIMES_AS_LONG * early)}"
            )
        tokens = home.with_name("tokens.toml")
        tokens.write_text(TOKENS, encoding="utf-8")
        with graticule("--config", str(tokens), home=home, environment=environment) as server:
            for actor in ("ada", SELDOM):
                for path in ("/jobs", "/jobs?status=running"):
                    headers = {"Authorization": f"Bearer {actor}"}
                    what = f"{path}, {actor} with a token"
                    tell(ledger, what, loop_run(times_ms(server, [path] * arguments.requests, headers)))


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="how many the ledger has")
    parser.add_argument("--requests", type=int, default=100, help="of each kind")
    parser.add_argument("--ledgers", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    for ledger in arguments.ledgers:
        measure(ledger, arguments)


if __name__ == "__main__":
    main()
