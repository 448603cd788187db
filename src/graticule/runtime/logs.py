"""Structured logs: one line an event, bound to the request and the job that it is about.

Modules say ``get_log(name)`` and log an event's name with fields, or use the standard library's ``logging``;
both come out in one form. Nothing that opens a door is ever written: see `_without_secrets`.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from graticule.jobs.failures import without_secrets
from graticule.jobs.job import Job

LogFormat = Literal["console", "json"]


@dataclass(slots=True)
class Asked:
    """The request that is being answered."""

    id: str
    job: str = ""
    """The job that it turned out to be about."""
    trace: str = ""
    """Identifier of its trace; empty: it has none."""
    over: bool = False
    """Set when it is answered: what it has set in motion may go on and log under its context."""


ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)
"""The request that this task answers."""

_HIDDEN = "********"
_SECRET_FIELDS = frozenset(
    {"authorization", "proxy-authorization", "proxy_authorization", "cookie", "set-cookie", "token", "password",
     "secret", "signature", "access_key", "secret_key", "session_token"}
)  # fmt: skip
_JOB = re.compile(r"\bjob ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")


def configure_logs(log_format: LogFormat) -> None:
    """Write all logs of this process to standard error.

    Parameters
    ----------
    log_format : str
        ``console``: lines for people; ``json``: one JSON object a line.
    """
    if log_format == "json":
        last: list[Processor] = [
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(),
        ]
    else:
        # Plain tracebacks: the pretty ones show what local variables hold.
        renderer = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False)
        last = [structlog.processors.format_exc_info, _without_secrets, renderer]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(), processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), **_STRUCTURED)


def get_log(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger that takes events with fields; one of the standard library's stands behind it."""
    found: structlog.stdlib.BoundLogger = structlog.wrap_logger(logging.getLogger(name), **_STRUCTURED)
    return found


def _shared() -> list[Processor]:
    """Return what is done with every line, in whichever way it was logged."""
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_job,
        _with_request,
    ]


def _with_job(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Bind the job that a line names in its text only."""
    if "job" not in event and (found := _JOB.search(str(event.get("event", "")))):
        event["job"] = found[1]
    return event


def _with_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Bind the request that is being answered, unless the line is about a job that the request does not concern."""
    asked = ASKED.get()
    if asked is None or asked.over:
        return event
    if asked.job:
        event.setdefault("job", asked.job)
    if event.get("job", "") in {"", asked.job}:
        event.setdefault("request", asked.id)
        if asked.trace:
            event.setdefault("trace", asked.trace)
    return event


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide fields that are secrets by name, and what looks like one in any text: passwords in addresses, tokens."""
    for name, value in event.items():
        if name.lower() in _SECRET_FIELDS:
            event[name] = _HIDDEN
        elif isinstance(value, str):
            event[name] = without_secrets(value)
    return event


_STRUCTURED: dict[str, Any] = {
    "processors": [
        structlog.stdlib.filter_by_level,
        *_shared(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    "wrapper_class": structlog.stdlib.BoundLogger,
    "cache_logger_on_first_use": True,
}


class EndLog:
    """Writes a line for each end of a job; a listener of the feed of jobs."""

    _log = get_log("graticule.jobs")

    def began(self, job: Job) -> None:
        """Do nothing: the line of the end says when it began."""

    def progressed(self, job: Job) -> None:
        """Do nothing: progress is for whoever sent the job."""

    def ended(self, job: Job) -> None:
        failure = job.failed_because() if job.failure else None
        fields = {"cause": failure.cause if failure is not None else "", "trace": job.trace[3:35]}
        self._log.info(
            "job.ended",
            job=job.id,
            process=job.process,
            workspace=job.workspace,
            actor=job.actor,
            status=job.status,
            waited_s=round(((job.started or job.finished) - job.created) / 1e6, 3),
            ran_s=round((job.finished - job.started) / 1e6, 3) if job.started else 0.0,
            **{name: value for name, value in fields.items() if value},
        )
