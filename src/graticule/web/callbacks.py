"""Write what subscribers are sent about their jobs (OGC API - Processes Part 1, requirements class "Callback")."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from graticule.errors import NoSuchProcess
from graticule.jobs.job import Job, NoticeKind, StoredValue
from graticule.ogc.processes import Execute, ProcessDescription
from graticule.runtime.parts import Parts
from graticule.web.documents import Results, results_parts, status_info

INLINE_BYTES = 64 << 10
"""Most bytes of values that stand inline in a results document that is sent; receivers fetch the others by link."""

_execute = msgspec.json.Decoder(Execute)


def callback_document(parts: Parts, job: Job, kind: NoticeKind) -> bytes:
    """Return what is sent: the results document of a success, else the status document.

    The status document of a failed job holds the exception; that of a dismissed one says so.

    Parameters
    ----------
    parts : Parts
        The running service.
    job : Job
        As it is now; links begin with the address that its submitter had used.
    kind : NoticeKind
        What is told.
    """
    if kind != "success":
        return msgspec.json.encode(status_info(job, job.base))
    results = Results(
        job=job,
        manifest=job.outputs(),
        execute=_execute.decode(job.request),
        description=_description(parts, job.process),
        store=parts.engine.results,
        base=job.base,
    )
    return b"".join(part for part in results_parts(results, _too_large()) if isinstance(part, bytes))


def _too_large() -> Callable[[StoredValue], bool]:
    """Return what says which values are linked: those kept as files, and small ones once there are many of them."""
    left = INLINE_BYTES

    def by_link(value: StoredValue) -> bool:
        nonlocal left
        if value.file is not None or value.size > left:
            return True
        left -= value.size
        return False

    return by_link


def _description(parts: Parts, process_id: str) -> ProcessDescription | None:
    try:
        return parts.catalog.get(process_id).description
    except NoSuchProcess:
        return None
