"""Every error that Graticule raises on purpose, in one tree.

The seven branches say what kind of thing went wrong; a leaf carries the facts as fields and a sentence that says what
to do. Nothing here knows HTTP: ``web/problems.py`` holds the one table from leaf to status and type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SHOWN = 200
"""Characters of what a client sent that a sentence repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a document that somebody sent."""

    pointer: str
    """Where, as a JSON pointer (RFC 6901) into the document, e.g. ``/inputs/dem/href``."""

    message: str
    """What is wrong and what would be right, one sentence."""

    transient: bool = False
    """True: the source of a reference did not deliver this time; the same document may be fine later."""


class GraticuleError(Exception):
    """Anything that Graticule reports on purpose."""


class NotFound(GraticuleError):
    """What was named does not exist, or not for who asks."""


class Invalid(GraticuleError):
    """What was sent cannot be understood or is not allowed."""


class Conflict(GraticuleError):
    """What was asked does not fit the present state."""


class Denied(GraticuleError):
    """Who asks may not do this."""


class Failed(GraticuleError):
    """Work that was begun did not succeed."""


class Unavailable(GraticuleError):
    """Something that is needed cannot be reached now; the same request may succeed later."""


class Misconfigured(GraticuleError):
    """A setting, a plug-in or the installation is wrong; whoever runs the service must act."""


# --- not found ---------------------------------------------------------------------------------------------------


class NoSuchResource(NotFound):
    """Nothing is served at an address."""

    def __init__(self, path: str) -> None:
        super().__init__(f"nothing is served at {path!r}; the landing page links what there is")
        self.path = path


class NoSuchWorkspace(NotFound):
    """No workspace of that name is configured."""

    def __init__(self, workspace: str) -> None:
        super().__init__(f"no workspace {workspace!r}; ask whoever runs this service for its names")
        self.workspace = workspace


class NoSuchProcess(NotFound):
    """No process of that identifier is offered in the workspace."""

    def __init__(self, process_id: str) -> None:
        super().__init__(f"no process {process_id!r}; GET /processes lists those of this workspace")
        self.process_id = process_id


class NoSuchJob(NotFound):
    """No job of that identifier exists in the workspace."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}; GET /jobs lists those of this workspace")
        self.job_id = job_id


class JobGone(NotFound):
    """The job existed and was removed."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id!r} was removed with its results; run the process again to get them")
        self.job_id = job_id


class ResultsExpired(NotFound):
    """The results of the job were removed since their time was up."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the time of the results of job {job_id!r} was up, and they were removed; run the process again, and pin "
            "the job to keep what it makes: PUT jobs/ID/pin"
        )
        self.job_id = job_id


class ResultNotReady(NotFound):
    """The job has not ended yet."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id!r} is {status}; ask again when its status is successful")
        self.job_id = job_id
        self.status = status


class ResultNotAvailable(NotFound):
    """The job ended without the result that was asked for."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"job {job_id!r} has no such result: {reason}")
        self.job_id = job_id
        self.reason = reason


class OutputNotProduced(NotFound):
    """The process declares the output, but this job did not ask for it or did not produce it."""

    def __init__(self, job_id: str, output_id: str) -> None:
        super().__init__(
            f"job {job_id!r} has no value for output {output_id!r}; its results document lists those it has"
        )
        self.job_id = job_id
        self.output_id = output_id


class ProvenanceMissing(NotFound):
    """The job has not ended yet, so there is nothing to tell of where its results come from."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id!r} is {status}; its provenance is there when it has ended")
        self.job_id = job_id
        self.status = status


class NoSuchFile(NotFound):
    """No uploaded file of that name exists in the workspace."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no file {name!r}; GET /files lists those of this workspace (files expire)")
        self.name = name


class ContentLost(NotFound):
    """A file that the service kept is not in its storage any more: somebody has removed it there."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the content {key.rpartition('/')[2]!r} is not in the storage any more, though it was not removed by this "
            "service; make it again, and tell whoever runs this service"
        )
        self.key = key


class NoSuchWorker(NotFound):
    """No server or worker of that identifier runs jobs now."""

    def __init__(self, worker: str) -> None:
        super().__init__(f"no worker {_shown(worker)}; GET /admin/queue lists those there are")
        self.worker = worker


class NoSuchNotice(NotFound):
    """The job has no notification of that number."""

    def __init__(self, job_id: str, number: str) -> None:
        super().__init__(
            f"job {job_id!r} has no notification {_shown(number)}; GET /jobs/{job_id}/notifications lists those it has"
        )
        self.job_id = job_id
        self.number = number


class NoSuchNotificationProfile(NotFound):
    """The actor has no notification profile of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no notification profile {_shown(name)}; GET /notification-profiles lists those there are")
        self.name = name


# --- invalid -----------------------------------------------------------------------------------------------------


class MalformedRequest(Invalid):
    """What was sent is no HTTP request that can be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no HTTP request that can be read: {reason}")
        self.reason = reason


class HeadTooLarge(Invalid):
    """The address and the headers of a request are larger than the service reads."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the address and the headers are larger than {limit_bytes} bytes together; send what is large as a body"
        )
        self.limit_bytes = limit_bytes


class RequestStalled(Invalid):
    """A request stood still before it was complete."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:g} s and the request is not complete; send all of it")
        self.seconds = seconds


class InvalidBody(Invalid):
    """The body of a request is missing, malformed or of the wrong shape."""

    def __init__(self, reason: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(reason)
        self.faults = tuple(faults)


class InvalidInputs(Invalid):
    """Inputs or outputs of an execute request do not fit the process; every fault is named."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults) or "invalid inputs")
        self.faults = tuple(faults)


class InvalidParameter(Invalid):
    """A query parameter or header has a value that is not allowed."""

    def __init__(self, name: str, value: str, remedy: str) -> None:
        super().__init__(f"parameter {_shown(name)} is {_shown(value)}: {remedy}")
        self.name = name
        self.value = value
        self.remedy = remedy


class NoSuchOutput(Invalid):
    """The process declares no output of that identifier."""

    def __init__(self, output_id: str, known: Sequence[str]) -> None:
        super().__init__(f"no output {output_id!r}; this process has: {', '.join(known) or 'none'}")
        self.output_id = output_id
        self.known = tuple(known)


class NotAcceptable(Invalid):
    """None of the representations that are offered was asked for."""

    def __init__(self, accept: str, offered: Sequence[str]) -> None:
        super().__init__(f"nothing here is {_shown(accept)}; offered: {', '.join(dict.fromkeys(offered))}")
        self.accept = accept
        self.offered = tuple(dict.fromkeys(offered))


class ProvenanceNotAcceptable(Invalid):
    """None of the forms that provenance is offered in was asked for."""

    def __init__(self, accept: str, offered: Sequence[str]) -> None:
        super().__init__(f"provenance is not offered as {_shown(accept)}; offered: {', '.join(offered)}")
        self.accept = accept
        self.offered = tuple(offered)


class KeyReused(Invalid):
    """An idempotency key was used before for another request."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} was used before for another request, which became job {job_id!r}; "
            "use a new key, or send the same request"
        )
        self.key = key
        self.job_id = job_id


class UnsupportedSchema(Invalid):
    """A job is described in a way that is not served here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnsupportedMediaType(Invalid):
    """A body came in a media type that this resource does not read, or is JSON in another encoding than UTF-8."""

    def __init__(self, media_type: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"a body of type {_shown(media_type or 'unknown')} is not read here; send {' or '.join(supported)}"
        )
        self.media_type = media_type
        self.supported = tuple(supported)


class UnsupportedEncoding(Invalid):
    """A body came compressed, or encoded in another way, which this service does not undo."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"a body with the Content-Encoding {_shown(encoding)} is not read here; send it as it is")
        self.encoding = encoding


class TooLarge(Invalid):
    """A body or file is larger than the service allows."""

    def __init__(self, what: str, limit_bytes: int, remedy: str) -> None:
        super().__init__(f"{what} is larger than {limit_bytes} bytes; {remedy}")
        self.what = what
        self.limit_bytes = limit_bytes


class MethodNotAllowed(Invalid):
    """A resource does not support a method."""

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        super().__init__(f"{method} is not supported here; supported: {', '.join(allowed)}")
        self.method = method
        self.allowed = tuple(allowed)


class InvalidRange(Invalid):
    """A byte range lies outside the content."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside this content of {size} bytes")
        self.size = size


# --- conflict ----------------------------------------------------------------------------------------------------


class IllegalTransition(Conflict):
    """A job cannot go from its status to the one that was asked for."""

    def __init__(self, status: str, wanted: str) -> None:
        super().__init__(f"a job that is {status} cannot become {wanted}")
        self.status = status
        self.wanted = wanted


class DuplicateJob(Conflict):
    """A job was sent before with the same idempotency key, by the same actor to the same process."""

    def __init__(self, job_id: str, key: str) -> None:
        super().__init__(f"job {job_id!r} cannot be kept: the idempotency key {key!r} was used before; use another one")
        self.job_id = job_id
        self.key = key


class JobLocked(Conflict):
    """The job waits, runs or has ended, so it can neither be changed nor started."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(
            f"job {job_id!r} is {status}; only a job that is created can be changed or started. Send a new one to /jobs"
        )
        self.job_id = job_id
        self.status = status


class JobChanged(Conflict):
    """The job is not as the entity tag in If-Match says: it has changed since it was read."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id!r} has changed since it was read; GET it again and send its new ETag")
        self.job_id = job_id


class NotWaiting(Conflict):
    """The job does not wait in the queue any more, or not yet."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id!r} is {status}; only a job that waits (accepted) has a place in the queue")
        self.job_id = job_id
        self.status = status


class NotEnded(Conflict):
    """The job has not ended yet, so it is not sent again."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(f"job {job_id!r} is {status}; send it again when it has ended, or dismiss it before")
        self.job_id = job_id
        self.status = status


class UploadConflict(Conflict):
    """A part of a resumable upload does not continue where the last one ended."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"upload {name!r} stands at byte {offset}; continue from there")
        self.name = name
        self.offset = offset


# --- denied ------------------------------------------------------------------------------------------------------


class Unauthenticated(Denied):
    """The service wants a bearer token and got none that it knows."""

    def __init__(self) -> None:
        super().__init__("this service needs a token: send 'Authorization: Bearer TOKEN'")


class AccessDenied(Denied):
    """The actor is known, but may not do this."""

    def __init__(self, actor: str, action: str) -> None:
        super().__init__(f"{actor!r} may not {action}")
        self.actor = actor
        self.action = action


# --- failed ------------------------------------------------------------------------------------------------------


class JobFailed(Failed):
    """The job ended without success; the problem is the one that the job recorded."""

    def __init__(
        self,
        job_id: str,
        cause: str,
        detail: str,
        faults: Sequence[Fault] = (),
        *,
        step: str = "",
        remedy: str = "",
        log: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.job_id = job_id
        self.cause = cause
        self.faults = tuple(faults)
        self.step = step
        self.remedy = remedy
        self.log = tuple(log)


class ProcessFault(Failed):
    """A process says, in words meant for its user, why it cannot go on."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class SyncTimeout(Failed):
    """A process that runs only synchronously did not end in time and was dismissed."""

    def __init__(self, process_id: str, seconds: float) -> None:
        super().__init__(
            f"process {process_id!r} did not end within {seconds:g} s and was dismissed; send it less to do"
        )
        self.process_id = process_id
        self.seconds = seconds


class RequestFailed(Failed):
    """Something went wrong inside the service itself; its log says what."""

    def __init__(self) -> None:
        super().__init__("the service made a mistake with this request; its log says which. Tell whoever runs it")


# --- unavailable -------------------------------------------------------------------------------------------------


class LedgerUnavailable(Unavailable):
    """The ledger of jobs cannot be written, or not be read; nothing was changed.

    Parameters
    ----------
    reason : str
        Why, as clients may know it: without addresses and names of the database.
    reading : bool
        Whether it was to be read.
    """

    def __init__(self, reason: str, *, reading: bool = False) -> None:
        what = f"read now ({reason})" if reading else f"written now ({reason}); nothing was changed"
        super().__init__(f"the job ledger cannot be {what}; try again later")
        self.reason = reason


class StorageUnavailable(Unavailable):
    """The storage of results and uploads does not do what it is asked for; nothing was changed."""

    def __init__(self, reason: str, setting: str) -> None:
        super().__init__(f"{reason}; nothing is lost, try again later")
        self.reason = reason
        self.setting = setting
        """The setting to look at, for whoever runs the service."""


class TooManyJobs(Unavailable):
    """As many jobs wait as may."""

    def __init__(self, whose: str, most: int) -> None:
        has = "have" if whose == "you" else "has"
        super().__init__(f"{whose} {has} {most} waiting jobs, which is the limit; send this again when some have begun")
        self.most = most


class QueueHeld(Unavailable):
    """An operator holds the queue, a workspace or a process back."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again later")
        self.reason = reason


class TooManyFollowers(Unavailable):
    """As many clients follow jobs as may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} clients follow the events of jobs, which is the limit; ask for the job's status now and then, or "
            "come again later"
        )
        self.most = most


class ShuttingDown(Unavailable):
    """The service is stopping."""

    def __init__(self) -> None:
        super().__init__("the service is stopping; try again in a moment")


# --- misconfigured -----------------------------------------------------------------------------------------------


class InvalidSetting(Misconfigured):
    """A setting has a value that cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"setting {name}: {reason}")
        self.name = name
        self.reason = reason


class HomeInUse(Misconfigured):
    """Another server owns the home folder."""

    def __init__(self, home: str, pid: int) -> None:
        super().__init__(
            f"home {home!r} belongs to the running server with pid {pid}; stop it, or give another --home, "
            "or set database.url to PostgreSQL to run several"
        )
        self.home = home
        self.pid = pid


class PluginNotLoaded(Misconfigured):
    """A plug-in cannot be imported or does not describe a process."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"plug-in {reference!r} cannot be loaded: {reason}")
        self.reference = reference
        self.reason = reason


def _shown(text: str) -> str:
    """Return what a client sent as it stands in a sentence: quoted, and not however long it is."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def leaves(error: type[GraticuleError]) -> Iterator[type[GraticuleError]]:
    """Yield the classes below `error` that have no subclass."""
    children = error.__subclasses__()
    if not children:
        yield error
    for child in children:
        yield from leaves(child)
