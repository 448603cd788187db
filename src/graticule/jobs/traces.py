"""Where a job stands in a trace (W3C Trace Context).

A job is a span and its job process is another one below it. Their identifiers are made from the job's, so that any
process may say which they are before, while and after the job runs, and nothing has to be remembered.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Literal

from graticule.jobs.job import Job

SpanKind = Literal["job", "process"]

_TRACEPARENT = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")


def span_id(job_id: str, kind: SpanKind) -> int:
    """Return the identifier of a job's span, or of that of its job process."""
    return int.from_bytes(blake2b(job_id.encode(), digest_size=8, person=kind.encode()).digest(), "big") or 1


def traceparent(job: Job, kind: SpanKind) -> str:
    """Return the header ``traceparent`` under which what belongs to a job goes on; empty if it is not traced."""
    found = _TRACEPARENT.fullmatch(job.trace)
    return f"00-{found['trace']}-{span_id(job.id, kind):016x}-{found['flags']}" if found else ""
