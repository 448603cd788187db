"""Write what subscribers are sent about their jobs (OGC API - Processes Part 1, requirements class "Callback")."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from graticule.errors import NoSuchProcess
from graticule.jobs.job import Job, NoticeKind, StoredValue
from graticule.ogc.processes import Execute, ProcessDescription
from graticule.runtime.parts import Parts
from graticule.web.documents import Results, results_parts, status_info

BODY_BYTES = 64 << 10
"""Most bytes that are sent; receivers fetch what is larger by link."""

INLINE_BYTES = BODY_BYTES // 2
"""Most bytes of values that stand inline in a results document; encoded they are up to a third larger."""

_TEXT = 4096
"""Characters of a text in a status document that would be too large otherwise."""

_execute = msgspec.json.Decoder(Execute)


def callback_document(parts: Parts, job: Job, kind: NoticeKind) -> bytes:
    """Return what is sent: the results document of a success, else the status document; at most `BODY_BYTES`.

    The status document of a failed job holds the exception; that of a dismissed one says so. Results of which even the
    links are too many are told by the status document, which links them.

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
        return _status(job)
    results = Results(
        job=job,
        manifest=job.outputs(),
        execute=_execute.decode(job.request),
        description=_description(parts, job.process),
        store=parts.engine.results,
        base=job.base,
    )
    for by_link in (_too_large(), lambda _: True):
        document = b"".join(part for part in results_parts(results, by_link) if isinstance(part, bytes))
        if len(document) <= BODY_BYTES:
            return document
    return _status(job)


def _status(job: Job) -> bytes:
    """Return the status document; one that is too large leaves out its many faults, which the job itself tells."""
    status = status_info(job, job.base)
    document = msgspec.json.encode(status)
    if len(document) <= BODY_BYTES:
        return document
    exception = status.exception
    if exception is not None:
        exception = msgspec.structs.replace(exception, detail=exception.detail[:_TEXT], errors=None)
    message = (status.message or "")[:_TEXT] or None
    return msgspec.json.encode(msgspec.structs.replace(status, message=message, exception=exception))


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
