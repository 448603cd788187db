"""Watchers of jobs."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from graticule.errors import TooManyFollowers
from graticule.jobs.job import Job, JobKey
from graticule.jobs.watching import Watchers

RUNNING = Job(id="j1", process="p").moved_to("running", at=1)
KEY = JobKey("default", "j1")


async def test_a_watcher_that_was_busy_has_the_newest_state_only():
    watchers = Watchers()
    with watchers.watch(KEY) as watch:
        for progress in range(100):
            watchers.progressed(msgspec.structs.replace(RUNNING, progress=progress))

        await watch.news(1)

        assert watch.job is not None
        assert watch.job.progress == 99


async def test_what_is_told_after_the_end_changes_nothing():
    watchers = Watchers()
    with watchers.watch(KEY) as watch:
        watchers.ended(RUNNING.moved_to("successful", at=2))
        watchers.progressed(RUNNING)

        assert watch.job is not None
        assert watch.job.status == "successful"


async def test_a_pause_ends_with_the_job():
    watchers = Watchers()
    with watchers.watch(KEY) as watch:
        asyncio.get_running_loop().call_later(0.01, watchers.ended, RUNNING.moved_to("failed", at=2))
        began = time.monotonic()

        await watch.pause(5)

        assert time.monotonic() - began < 1


async def test_all_are_let_go_when_the_service_stops_and_nobody_is_left_behind():
    watchers = Watchers()
    with watchers.watch(KEY) as watch:
        watchers.close()
        with watchers.watch(KEY) as late:
            assert watch.over
            assert late.over

    assert watchers._watches == {}


def test_nobody_watches_beyond_the_limit_until_another_one_leaves() -> None:
    watchers = Watchers(most=1)

    with watchers.watch(KEY):
        with pytest.raises(TooManyFollowers) as refused:
            watchers.check_room()
        assert refused.value.most == 1

    watchers.check_room()
