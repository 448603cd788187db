"""What is said of a job that ended without success."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import get_args

import pytest

from graticule.jobs.failures import (
    REMEDIES,
    crashed,
    exceeded,
    not_started,
    scarcity,
    shortened,
    tail_of,
    without_secrets,
)
from graticule.jobs.job import Cause
from graticule.ogc.processes import Limits

TRACE = """\
before
Traceback (most recent call last):
  File "work.py", line 3, in work
    inner()
    ^^^^^^^
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "work.py", line 5, in work
    raise ValueError("bad luck")
ValueError: bad luck
after
"""


def test_every_cause_has_a_remedy():
    assert set(REMEDIES) == set(get_args(Cause))


def test_the_last_lines_of_a_log_are_without_stack_traces(tmp_path):
    (tmp_path / "process.log").write_text(TRACE)

    assert tail_of(tmp_path / "process.log") == ["before", "after"]


def test_the_last_lines_are_few_and_short_however_long_the_log_is(tmp_path):
    (tmp_path / "process.log").write_text("x" * 100_000 + "\n" + "a line\n" * 100_000)

    tail = tail_of(tmp_path / "process.log")

    assert tail == ["a line"] * 20
    (tmp_path / "process.log").write_text("y" * 100_000)
    assert [len(line) for line in tail_of(tmp_path / "process.log")] == [400]


def test_a_log_that_is_no_text_or_not_there_harms_nothing(tmp_path):
    (tmp_path / "process.log").write_bytes(b"\xff\x00\x1b[31mred\n")

    assert tail_of(tmp_path / "process.log") == ["\ufffd[31mred"]
    assert tail_of(tmp_path / "none.log") == []


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "postgresql://ada:hunter2@example.org/db",
        "GET https://example.org/x.tif?X-Amz-Signature=hunter2&x=1",
        "Authorization: Bearer hunter2hunter2",
        "{'access_token': 'hunter2', 'b': 1}",
        '{"api_key": "hunter2"}',
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "Set-Cookie: sid=hunter2; Path=/",
        "password: hunter2",
    ],
)
def test_what_looks_like_a_secret_is_made_unreadable(text):
    assert "hunter2" not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    ["ValueError: bad luck", "unexpected token: '}'", "see https://example.org/x.tif?bbox=1,2", "token == b"],
)
def test_what_is_no_secret_stays(text):
    assert without_secrets(text) == text


@pytest.mark.parametrize("piece", ["x", "x.", "a-", "://", "1.5,"])
def test_half_a_megabyte_without_a_blank_takes_no_time(piece):
    text = piece * (500_000 // len(piece))
    began = time.process_time()

    assert without_secrets(text) == text
    assert time.process_time() - began < 5


def test_what_foreign_code_says_is_cut():
    assert len(shortened("x" * 10_000)) == 2001


def test_a_limit_of_the_request_is_raised_in_the_request():
    limits, most = Limits(time_limit_s=5), Limits(time_limit_s=60)

    failure = exceeded("time_limit_s", limits=limits, most=most, process="slow")

    assert (failure.cause, failure.detail) == ("time limit", "the job ran longer than its time limit of 5 s")
    assert failure.remedy == "give it less to do, or ask for a larger limits.timeLimitS (at most 60) in the request"


def test_a_limit_of_the_process_is_raised_by_whoever_runs_the_service():
    most = Limits(memory_limit_mib=300)

    failure = exceeded("memory_limit_mib", limits=most, most=most, process="hungry", used_mib=310)

    assert failure.cause == "out of memory"
    assert failure.detail == "the job used 310 MiB, more memory than its limit allows; its limit is 300 MiB"
    assert failure.remedy.endswith("whoever runs this service can raise processes.hungry.memory_limit_mib")


@pytest.mark.parametrize(
    ("status", "short", "cause"),
    [
        (7 << 8, False, "process error"),
        (signal.SIGSEGV, False, "process error"),
        (signal.SIGKILL, False, "lost worker"),
        (signal.SIGKILL, True, "out of memory"),
        (None, False, "lost worker"),
    ],
)
def test_an_end_without_a_word_has_a_cause(status, short, cause):
    assert crashed(status, memory_was_short=short).cause == cause


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "ulimit -n"), (errno.ENFILE, "fs.file-max"), (errno.EAGAIN, "ulimit -u"),
        (errno.ENOMEM, "jobs.workers"), (errno.ENOTDIR, "scratch"),
    ],
)  # fmt: skip
def test_a_job_is_not_to_blame_for_what_the_system_has_not_left(number: int, remedy: str):
    error = OSError(number, os.strerror(number), "/a/place/of/the/server")

    assert remedy in scarcity(error)
    assert "/a/place" not in scarcity(error)
    assert (not_started(error).cause, not_started(error).transient) == ("lost worker", True)


def test_a_python_that_is_not_there_is_a_fault_of_the_plug_in():
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "python9")

    assert scarcity(error) == ""
    assert not_started(error).cause == "plug-in"
