"""What goes over the wire, as values: a request, a reply, a call, and what can go wrong with them.

Nothing here does I/O. ``client.py`` sends what stands here, in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from graticule.errors import Fault
from graticule.ogc.common import Problem

T = TypeVar("T")


# --- what can go wrong -------------------------------------------------------------------------------------------


class ClientFault(Exception):
    """Anything that the client library reports on purpose."""


class RemoteProblem(ClientFault):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title or f"the service answered {problem.status}")
        self.status = problem.status
        """HTTP status."""
        self.type = problem.type
        """URI of the kind of problem."""
        self.title = problem.title
        self.detail = problem.detail
        self.instance = problem.instance
        self.faults = tuple(_faults(problem))
        """Each thing that is wrong in what was sent, with its place."""


class ServerUnreachable(ClientFault):
    """No answer came from the service."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url} ({reason}); is the service running there?")
        self.url = url
        self.reason = reason


class UnexpectedAnswer(ClientFault):
    """The service answered something that is no document of the standard."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} answered what cannot be read: {reason}")
        self.url = url
        self.reason = reason


class NotAsynchronous(ClientFault):
    """The process ran at once although a job was asked for."""

    def __init__(self, process_id: str) -> None:
        super().__init__(f"process {process_id!r} runs only synchronously; use execute()")
        self.process_id = process_id


class WaitExpired(ClientFault):
    """The job did not end within the time that was given to wait."""

    def __init__(self, job_id: str, seconds: float) -> None:
        super().__init__(f"job {job_id!r} did not end within {seconds:g} s; it goes on, wait again")
        self.job_id = job_id
        self.seconds = seconds


def _faults(problem: Problem) -> list[Fault]:
    return [
        Fault(str(error.get("pointer") or error.get("parameter") or ""), str(error.get("detail") or ""))
        for error in problem.errors or []
    ]


# --- requests and replies ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask."""

    method: Literal["GET", "POST", "DELETE", "PATCH", "PUT", "HEAD"] = "GET"

    path: str
    """A path below the API, e.g. ``/jobs``; or below the workspace if `room` says so; or an absolute address."""

    room: Literal["api", "workspace"] = "api"

    query: tuple[tuple[str, str], ...] = ()

    headers: Mapping[str, str] = field(default_factory=dict)

    body: bytes | Path | None = None
    """Bytes, or a file that is sent piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; a status of 400 and above has become a `RemoteProblem` before."""

    status: int
    url: str
    headers: Mapping[str, str]
    """By name in lower case."""
    content: bytes = b""

    @property
    def media_type(self) -> str:
        """Media type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def read(self, kind: type[T]) -> T:
        """
        Return the content as a document.

        Raises
        ------
        UnexpectedAnswer
            If it is no JSON or not of that shape.
        """
        try:
            return msgspec.json.decode(self.content, type=kind)
        except msgspec.DecodeError as error:
            raise UnexpectedAnswer(self.url, str(error)) from error


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and how its reply is read."""

    request: Request
    read: Callable[[Reply], T]


@dataclass(frozen=True, slots=True)
class Save:
    """Write the content of a reply to a file, piece by piece; the answer is the path of the file."""

    request: Request

    folder: Path
    """Where it is written."""

    place: Callable[[Reply], Path]
    """Returns the path in that folder; it is asked once the content is complete, with the reply without content."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next step."""

    seconds: float


Step = Call[Any] | Save | Pause
Steps = Generator[Step, Any, T]
"""A journey of several requests, written once: it yields what to do next and is sent the answer; a driver does it.

What goes wrong with a step is raised where it was yielded.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go, and as whom."""

    url: str
    """Address of the service, without a slash at its end."""

    workspace: str | None = None
    token: str | None = None

    def address(self, request: Request) -> str:
        """Return the absolute address of a request."""
        if "://" in request.path:
            return request.path
        if self.workspace is None:
            return self.url + request.path
        room = "/ogc-api" if request.room == "api" else ""
        return f"{self.url}/{quote(self.workspace, safe='')}{room}{request.path}"

    def headers(self, request: Request, address: str) -> dict[str, str]:
        """Return the headers of a request; the token goes to the service alone, never to another host."""
        headers = {"Accept": "application/json", **request.headers}
        if self.token is not None and _origin(address) == _origin(self.url):
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


def _origin(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc


def resolved(base: str, href: str) -> str:
    """Return `href` as an absolute address, as seen from `base`."""
    return urljoin(base, href)


def problem_of(reply: Reply) -> RemoteProblem:
    """Return what a reply of 400 and above says; one that is no problem document still names its status."""
    try:
        problem = msgspec.json.decode(reply.content, type=Problem)
    except msgspec.DecodeError:
        problem = Problem(
            type="about:blank", detail=f"{reply.url} answered {reply.status}: {_beginning(reply.content)}"
        )
    if not problem.status:
        problem = msgspec.structs.replace(problem, status=reply.status)
    return RemoteProblem(problem)


def _beginning(content: bytes) -> str:
    text = " ".join(content[:200].decode("utf-8", "replace").split())
    return text or "no content"
