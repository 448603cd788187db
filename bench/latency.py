"""From sending a job to the first answer that says it is successful, by the client's clock, one job at a time.

The client asks again as soon as it has an answer. Prints milliseconds on SQLite and PostgreSQL beside their bars.
"""

from __future__ import annotations

import json
import time
from statistics import median, quantiles

from servers import Client, Postgres, Running, graticule, loop_run, options, verdict

BARS_MS = {"sqlite": 10.0, "postgresql": 25.0}
WARM_UP = 20


async def latencies_ms(server: Running, count: int) -> list[float]:
    """Send jobs one after the other, and return how long each took until it was called successful."""
    client, taken = Client(server.url), []
    for number in range(WARM_UP + count):
        body = json.dumps({"inputs": {"name": f"name-{number}"}}).encode()
        begin = time.perf_counter()
        status, headers, answer = await client.request(
            "POST", "/processes/hello-world/execution", body, {"Prefer": "respond-async"}
        )
        if status != 201:
            raise SystemExit(f"{server.url} answered {status}: {answer[:300]!r}")
        job = "/jobs/" + headers["location"].rpartition("/")[2]
        while (document := json.loads((await client.request("GET", job))[2]))["status"] != "successful":
            if document["status"] not in {"accepted", "running"}:
                raise SystemExit(f"{job}: {document}")
        taken.append((time.perf_counter() - begin) * 1000)
    await client.close()
    return taken[WARM_UP:]


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="of each round")
    arguments = parser.parse_args()
    taken: dict[str, list[float]] = {ledger: [] for ledger in BARS_MS}
    with Postgres() as postgres:
        for _ in range(arguments.rounds):
            for ledger, values in taken.items():
                environment = {"GRATICULE_DATABASE__URL": postgres.new_database()} if ledger == "postgresql" else {}
                with graticule(environment=environment) as server:
                    values.extend(loop_run(latencies_ms(server, arguments.jobs)))
    for ledger, values in taken.items():
        cuts = quantiles(values, n=100)
        print(
            f"{ledger:11} {len(values)} jobs: median {median(values):.2f} ms, p95 {cuts[94]:.2f}, p99 {cuts[98]:.2f},"
            f" most {max(values):.2f}, bar of the median {BARS_MS[ledger]} ms"
            f"  {verdict(median(values) < BARS_MS[ledger])}"
        )


if __name__ == "__main__":
    main()
