"""Never more jobs wait than may, however many are sent at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.postgres import Postgres
from tests.serving import Server

MOST = 5
SENT = 60


@pytest.mark.parametrize("setting", ["MAX_WAITING", "MAX_WAITING_PER_ACTOR"])
@pytest.mark.parametrize("servers", [1, 2], ids=["sqlite", "two servers on postgresql"])
def test_never_more_jobs_wait_than_may(tmp_path: Path, postgres: Postgres, servers: int, setting: str) -> None:
    settings = {f"GRATICULE_JOBS__{setting}": str(MOST)}
    if servers > 1:
        settings["GRATICULE_DATABASE__URL"] = postgres.new_database()
        settings["GRATICULE_STORAGE__FOLDER"] = str(tmp_path / "storage")
    with ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        several = [
            stack.enter_context(Server(tmp_path / f"home-{number}", environment=settings)) for number in range(servers)
        ]
        clients = [stack.enter_context(httpx2.Client(base_url=each.url, trust_env=False)) for each in several]

        clients[0].put("/admin/holds/queue", json={"action": "pause", "reason": "they are to wait"}).raise_for_status()

        def send(number: int) -> httpx2.Response:
            body, prefer = {"inputs": {"name": "Ada"}}, {"Prefer": "respond-async"}
            return clients[number % servers].post("/processes/hello-world/execution", json=body, headers=prefer)

        answers = list(pool.map(send, range(SENT)))
        waiting = clients[0].get("/admin/queue").json()["waiting"]

    assert Counter(answer.status_code for answer in answers) == {201: MOST, 429: SENT - MOST}
    assert waiting == MOST
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)
