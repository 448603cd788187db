"""Identifiers of spans."""

from __future__ import annotations

import re

from graticule.jobs.job import Job
from graticule.jobs.traces import traceparent

SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_job_goes_on_with_the_trace_of_its_request_under_an_identifier_of_its_own():
    job = Job(id="j1", process="p", trace=SENT)

    whole, work = traceparent(job, "job"), traceparent(job, "process")

    assert re.fullmatch(r"00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01", whole)
    assert len({SENT, whole, work}) == 3
    assert traceparent(job, "job") == whole


def test_a_job_without_a_trace_has_none():
    assert traceparent(Job(id="j1", process="p"), "job") == ""
