"""What an operator's graphs are drawn from: numbers that are counted as things happen, read by Prometheus.

Counting is on the path of every request and job, so it is an addition to a plain number; names, help texts and the
exposition format belong to prometheus-client, which is loaded by the first who reads. No label has more values than
there are routes or, up to `_PROCESSES`, processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from graticule import __version__
from graticule.errors import GraticuleError
from graticule.jobs.job import Job

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import HistogramMetricFamily, Metric

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_WAIT_S = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
_RUN_S = (0.005, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14400)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_PROCESSES = 100
"""Processes that have a series of their own; further ones are counted together as ``other``."""
_BEAT_S = 0.5
"""Seconds between two looks at how late the event loop is."""


class Times:
    """How long something took, in steps.

    Parameters
    ----------
    steps : tuple of float
        Upper ends of the steps in seconds, growing.
    """

    __slots__ = ("counts", "steps", "total")

    def __init__(self, steps: tuple[float, ...]) -> None:
        self.steps = steps
        self.counts = [0] * (len(steps) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.steps, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the steps as Prometheus wants them: each with all that was not longer."""
        found, so_far = [], 0
        for step, count in zip((*map(str, map(float, self.steps)), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((step, float(so_far)))
        return found


class Metrics:
    """Counts what happens in this process; a listener of the feed of jobs.

    Parameters
    ----------
    gauges : mapping of str to (str, callable)
        Name of a number that is at hand at any time → what it is, and what gives it.
    count_waiting : callable
        Counts the jobs that wait for their turn, wherever they were sent.
    """

    def __init__(
        self, gauges: Mapping[str, tuple[str, Callable[[], float]]], count_waiting: Callable[[], Awaitable[int]]
    ) -> None:
        self._gauges = gauges
        self._count_waiting = count_waiting
        self._waiting: int | None = None
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._durations: dict[str, Times] = {}
        self._ends: Counter[tuple[str, str]] = Counter()
        self._waits = Times(_WAIT_S)
        self._runs: dict[str, Times] = {}
        self._leases_lost = 0
        self._deliveries: Counter[str] = Counter()
        self._lag = Times(_LAG_S)
        self._registry: CollectorRegistry | None = None

    # --- counting ---------------------------------------------------------------------------------------------------

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the template of its address, empty if there is none."""
        self._requests[method, route, status] += 1
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = Times(_REQUEST_S)
        durations.add(seconds)

    def began(self, job: Job) -> None:
        if job.attempts <= 1:
            self._waits.add((job.started - job.created) / 1e6)

    def progressed(self, job: Job) -> None:
        """Do nothing: progress is not counted."""

    def ended(self, job: Job) -> None:
        failure = job.failed_because() if job.failure else None
        self._ends[job.status, failure.cause if failure is not None else ""] += 1
        if job.started:
            self._run_times(job.process).add((job.finished - job.started) / 1e6)

    def lost_leases(self, count: int) -> None:
        """Count jobs whose agent was not heard of any more."""
        self._leases_lost += count

    def delivered(self, outcome: str) -> None:
        """Count an attempt to tell a subscriber: ``delivered``, ``waiting`` for the next one, or ``undelivered``."""
        self._deliveries[outcome] += 1

    async def watch_loop(self) -> None:
        """Measure for good how late the event loop comes back to what is due."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._lag.add(max(0.0, loop.time() - due))

    def _run_times(self, process: str) -> Times:
        times = self._runs.get(process)
        if times is None:
            name = process if len(self._runs) < _PROCESSES else "other"
            times = self._runs.setdefault(name, Times(_RUN_S))
        return times

    # --- reading ----------------------------------------------------------------------------------------------------

    async def exposition(self) -> tuple[bytes, str]:
        """Return all numbers in Prometheus' text format, and its media type.

        While the ledger cannot be read, how many wait is left out: a number that is not known is no number.
        """
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
            ProcessCollector(registry=self._registry)
        self._waiting = None
        with contextlib.suppress(GraticuleError):
            self._waiting = await self._count_waiting()
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield what Prometheus' registry asks for."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        build = GaugeMetricFamily("graticule_build_info", "What runs here.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        if self._waiting is not None:
            yield GaugeMetricFamily("graticule_jobs_waiting", "Jobs that wait for their turn.", value=self._waiting)
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=read())
        requests = {(method, route, str(status)): count for (method, route, status), count in self._requests.items()}
        labels = ("method", "route", "status")
        yield _counter(CounterMetricFamily, "http_requests", "Answered requests.", labels, requests)
        yield _histogram("http_request_seconds", "Time until an answer was sent.", "route", self._durations)
        yield _counter(CounterMetricFamily, "jobs_ended", "Jobs that ended here.", ("status", "cause"), self._ends)
        yield _histogram("job_wait_seconds", "Time from sending a job to its first begin.", "", {"": self._waits})
        yield _histogram("job_run_seconds", "Time that jobs ran.", "process", self._runs)
        lost = {(): self._leases_lost}
        yield _counter(CounterMetricFamily, "leases_lost", "Jobs whose agent was lost while they ran.", (), lost)
        outcomes = {(outcome,): count for outcome, count in self._deliveries.items()}
        yield _counter(CounterMetricFamily, "deliveries", "Attempts to tell a subscriber.", ("outcome",), outcomes)
        yield _histogram("event_loop_lag_seconds", "How late the event loop was.", "", {"": self._lag})


def _counter(family: Any, name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    metric: Metric = family(f"graticule_{name}", text, labels=labels)
    for values, count in sorted(counts.items()):
        metric.add_metric(values, count)  # type: ignore[attr-defined]
    return metric


def _histogram(name: str, text: str, label: str, times: Mapping[str, Times]) -> HistogramMetricFamily:
    from prometheus_client.metrics_core import HistogramMetricFamily

    metric = HistogramMetricFamily(f"graticule_{name}", text, labels=(label,) if label else ())
    for value, one in sorted(times.items()):
        metric.add_metric((value,) if label else (), one.buckets(), one.total)
    return metric
