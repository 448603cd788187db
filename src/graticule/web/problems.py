"""The one table from error to HTTP status and problem type (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from graticule import errors
from graticule.ogc.common import Problem as Document

PART1 = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"
PART2 = "http://www.opengis.net/def/exceptions/ogcapi-processes-2/1.0"
PART4 = "http://www.opengis.net/def/exceptions/ogcapi-processes-4/1.0"
PART5 = "https://www.opengis.net/def/exceptions/ogcapi-processes-5/1.0"
INVALID_PARAMETER = f"{PART1}/InvalidParameterValue"
"""No URI is registered for bad inputs; this one is common practice among servers."""


@dataclass(frozen=True, slots=True)
class Problem:
    """How one class of error is answered."""

    status: int
    type: str
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


def _own(name: str) -> str:
    return f"urn:graticule:problem:{name}"


PROBLEMS: dict[type[errors.GraticuleError], Problem] = {
    errors.NoSuchResource: Problem(404, _own("not-found"), "Not found"),
    errors.NoSuchWorkspace: Problem(404, _own("no-such-workspace"), "No such workspace"),
    errors.NoSuchProcess: Problem(404, f"{PART1}/no-such-process", "No such process"),
    errors.NoSuchJob: Problem(404, f"{PART1}/no-such-job", "No such job"),
    errors.JobGone: Problem(410, f"{PART1}/no-such-job", "Job removed"),
    errors.ResultsExpired: Problem(410, _own("results-expired"), "Results expired"),
    errors.ResultNotReady: Problem(404, f"{PART1}/result-not-ready", "Result not ready"),
    errors.ResultNotAvailable: Problem(404, f"{PART1}/result-not-available", "Result not available"),
    errors.OutputNotProduced: Problem(404, f"{PART1}/no-such-output", "Output not produced"),
    errors.ContentLost: Problem(404, _own("content-lost"), "Content lost"),
    errors.ProvenanceMissing: Problem(404, f"{PART5}/prov-missing", "No provenance"),
    errors.NoSuchFile: Problem(404, _own("no-such-file"), "No such file"),
    errors.NoSuchWorker: Problem(404, _own("no-such-worker"), "No such worker"),
    errors.NoSuchNotice: Problem(404, _own("no-such-notification"), "No such notification"),
    errors.NoSuchNotificationProfile: Problem(
        404, _own("no-such-notification-profile"), "No such notification profile"
    ),
    errors.MalformedRequest: Problem(400, _own("malformed-request"), "Malformed request"),
    errors.HeadTooLarge: Problem(431, _own("head-too-large"), "Request head too large"),
    errors.RequestStalled: Problem(408, _own("request-stalled"), "Request stalled"),
    errors.InvalidBody: Problem(400, _own("invalid-body"), "Invalid request body"),
    errors.InvalidInputs: Problem(400, INVALID_PARAMETER, "Invalid inputs"),
    errors.InvalidParameter: Problem(400, f"{PART1}/invalid-query-parameter-value", "Invalid parameter"),
    errors.NoSuchOutput: Problem(400, f"{PART1}/no-such-output", "No such output"),
    errors.NotAcceptable: Problem(406, _own("not-acceptable"), "Not acceptable"),
    errors.ProvenanceNotAcceptable: Problem(406, f"{PART5}/prov-unsupported-format", "Not acceptable"),
    errors.UnsupportedMediaType: Problem(415, f"{PART2}/unsupported-media-type", "Unsupported media type"),
    errors.UnsupportedEncoding: Problem(
        415, _own("unsupported-content-encoding"), "Unsupported content encoding", {"Accept-Encoding": "identity"}
    ),
    errors.KeyReused: Problem(422, _own("idempotency-key-reused"), "Idempotency key used before"),
    errors.UnsupportedSchema: Problem(422, f"{PART4}/unsupported-schema", "Unsupported schema"),
    errors.TooLarge: Problem(413, _own("too-large"), "Too large"),
    errors.MethodNotAllowed: Problem(405, _own("method-not-allowed"), "Method not allowed"),
    errors.InvalidRange: Problem(416, _own("invalid-range"), "Range not satisfiable"),
    errors.IllegalTransition: Problem(409, _own("illegal-transition"), "Not possible in this status"),
    errors.JobLocked: Problem(423, f"{PART4}/locked", "Job locked"),
    errors.JobChanged: Problem(412, _own("job-changed"), "Job changed"),
    errors.NotWaiting: Problem(409, _own("not-waiting"), "Job does not wait"),
    errors.NotEnded: Problem(409, _own("not-ended"), "Job has not ended"),
    errors.DuplicateJob: Problem(409, _own("duplicate-job"), "Sent before"),
    errors.UploadConflict: Problem(409, _own("upload-conflict"), "Upload does not continue here"),
    errors.Unauthenticated: Problem(401, _own("unauthenticated"), "Token needed", {"WWW-Authenticate": "Bearer"}),
    errors.AccessDenied: Problem(403, _own("access-denied"), "Access denied"),
    errors.JobFailed: Problem(500, _own("job-failed"), "Job failed"),
    errors.ProcessFault: Problem(500, _own("process-fault"), "Process failed"),
    errors.SyncTimeout: Problem(504, _own("sync-timeout"), "Execution took too long"),
    errors.RequestFailed: Problem(500, _own("internal"), "Internal error"),
    errors.LedgerUnavailable: Problem(503, _own("ledger-unavailable"), "Unavailable", {"Retry-After": "5"}),
    errors.StorageUnavailable: Problem(503, _own("storage-unavailable"), "Unavailable", {"Retry-After": "5"}),
    errors.TooManyJobs: Problem(429, _own("too-many-jobs"), "Too many jobs wait", {"Retry-After": "5"}),
    errors.QueueHeld: Problem(503, _own("queue-held"), "Held back", {"Retry-After": "30"}),
    # The connection goes too, else the next one might find none left.
    errors.TooManyFollowers: Problem(
        503, _own("too-many-followers"), "Too many follow jobs", {"Retry-After": "10", "Connection": "close"}
    ),
    errors.ShuttingDown: Problem(503, _own("shutting-down"), "Stopping", {"Retry-After": "5"}),
    errors.InvalidSetting: Problem(500, _own("misconfigured"), "Misconfigured"),
    errors.HomeInUse: Problem(500, _own("misconfigured"), "Misconfigured"),
    errors.PluginNotLoaded: Problem(500, _own("plug-in-not-loaded"), "Plug-in not loaded"),
}
"""Every leaf of the tree of errors has its row; a test says so."""


def problem_of(error: errors.GraticuleError, instance: str | None = None) -> tuple[Problem, Document]:
    """Return how an error is answered, and the document that says so.

    Parameters
    ----------
    error : GraticuleError
        The error.
    instance : str, optional
        The address of the occurrence.

    Returns
    -------
    tuple of Problem and graticule.ogc.common.Problem
        The row of the table (with the status of the cause, for a failed job) and the document.
    """
    row = PROBLEMS[type(error)]
    faults = getattr(error, "faults", ())
    if isinstance(error, errors.JobFailed):
        if error.faults:
            row = Problem(400, INVALID_PARAMETER, "Invalid inputs")
        else:
            row = replace(row, title=f"Job failed: {error.cause}")
    listed = [{"pointer": fault.pointer, "detail": fault.message} for fault in faults] or None
    if isinstance(error, errors.InvalidParameter):
        listed = [{"parameter": error.name, "detail": error.remedy}]
    document = Document(
        type=row.type, title=row.title, status=row.status, detail=str(error), instance=instance, errors=listed
    )
    if isinstance(error, errors.JobFailed):
        document = msgspec.structs.replace(
            document,
            cause=error.cause,
            step=error.step or None,
            remedy=error.remedy or None,
            log=list(error.log) or None,
        )
    return row, document


def headers_of(error: errors.GraticuleError, row: Problem) -> dict[str, str]:
    """Return the headers that go with an error."""
    headers = dict(row.headers)
    if isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, errors.InvalidRange):
        headers["Content-Range"] = f"bytes */{error.size}"
    return headers
