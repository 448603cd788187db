"""Numbers for operators."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from graticule.errors import LedgerUnavailable
from graticule.jobs.job import Job
from graticule.runtime.metrics import Metrics, Times


async def seven() -> int:
    return 7


async def away() -> int:
    raise LedgerUnavailable("the database is away")


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    text = asyncio.run(metrics.exposition())[0].decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_times_fall_into_the_step_that_they_do_not_exceed():
    times = Times((0.1, 1))
    for seconds in (0.05, 0.1, 0.5, 7):
        times.add(seconds)

    assert times.buckets() == [("0.1", 2), ("1.0", 3), ("+Inf", 4)]
    assert times.total == pytest.approx(7.65)


def test_processes_beyond_the_first_hundred_are_counted_together():
    metrics = Metrics({}, seven)
    for number in range(150):
        metrics.ended(Job(id="j", process=f"p{number}", status="successful", started=1, finished=2_000_001))

    found = samples(metrics)
    counts = {key[1]: value for key, value in found.items() if key[0] == "graticule_job_run_seconds_count"}
    assert len(counts) == 101
    assert counts["other"] == 50


def test_a_job_that_was_begun_again_has_waited_once():
    metrics = Metrics({"graticule_holds": ("What is held back.", lambda: 3)}, seven)
    metrics.began(Job(id="j", process="p", created=0, started=2_000_000, attempts=1))
    metrics.began(Job(id="j", process="p", created=0, started=9_000_000, attempts=2))

    found = samples(metrics)
    assert found["graticule_job_wait_seconds_count",] == 1
    assert found["graticule_job_wait_seconds_sum",] == 2
    assert found["graticule_jobs_waiting",] == 7
    assert found["graticule_holds",] == 3


def test_a_queue_that_cannot_be_read_is_left_out_and_all_else_is_told():
    metrics = Metrics({"graticule_holds": ("What is held back.", lambda: 3)}, away)

    found = samples(metrics)
    assert ("graticule_jobs_waiting",) not in found
    assert found["graticule_holds",] == 3
