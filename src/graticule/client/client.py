"""The two drivers: `Client` blocks, `AsyncClient` awaits. What they ask stands in ``calls.py``."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import anyio
import httpx2

from graticule.client import calls
from graticule.client.calls import OnProgress, Outputs, Page, Results
from graticule.client.in_process import ADDRESS, App, InProcess, lifespan, transport_of
from graticule.client.transport import (
    Call,
    ClientFault,
    Pause,
    Reply,
    Request,
    Save,
    ServerUnreachable,
    Step,
    Steps,
    Target,
    problem_of,
)
from graticule.ogc.common import Link
from graticule.ogc.jobs import StatusInfo
from graticule.ogc.operations import Dismissal, HoldInfo, QueueInfo
from graticule.ogc.processes import ProcessDescription

T = TypeVar("T")

_CHUNK = 1 << 20
_TIMEOUT = httpx2.Timeout(30.0, read=120.0)
"""A synchronous execution keeps its reader waiting; the service gives up after a minute by default."""


class Client:
    """
    Talk to a service and wait for its answers.

    Parameters
    ----------
    url : str, optional
        Address of the service, e.g. ``http://127.0.0.1:8080``.
    token : str, optional
        Bearer token; it is sent to the service alone.
    workspace : str, optional
        Workspace to work in; default: the service's default one.
    app : App, optional
        An ASGI application to ask in this process instead of a service at `url`.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8080") as client:  # doctest: +SKIP
    ...     client.execute("hello-world", {"name": "Ada"})["greeting"]
    'Hello Ada!'
    """

    def __init__(
        self, url: str = "", *, token: str | None = None, workspace: str | None = None, app: App | None = None
    ) -> None:
        self._target = _target(url, token, workspace, app)
        transport = None if app is None else InProcess(app)
        self._http = httpx2.Client(transport=transport, timeout=_TIMEOUT, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def processes(self, limit: int | None = None) -> Iterator[ProcessDescription]:
        """Yield the summaries of all processes; `limit` is the size of a page."""
        for page in self._pages(calls.list_processes(limit)):
            yield from page.processes

    def process(self, process_id: str) -> ProcessDescription:
        """Return the description of a process."""
        return self._send(calls.get_process(process_id))

    def execute(
        self,
        process_id: str,
        inputs: Mapping[str, Any] | None = None,
        outputs: Outputs = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Results:
        """
        Run a process and return its results.

        Parameters
        ----------
        process_id : str
            Which process.
        inputs : Mapping, optional
            Values by input: JSON values, `pathlib.Path` for files (they are uploaded), `bytes`, `Link` for references.
        outputs : Sequence or Mapping, optional
            Names of the outputs that are wanted, or names with how each is wanted. Default: all.
        on_progress : Callable, optional
            Called with the status while a job runs, where the service makes a job of the request.

        Raises
        ------
        RemoteProblem
            If the service refuses the request or the job fails.
        """
        return self._run(calls.running(process_id, inputs or {}, outputs, on_progress=on_progress))

    def submit(
        self,
        process_id: str,
        inputs: Mapping[str, Any] | None = None,
        outputs: Outputs = None,
        *,
        subscriber: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
    ) -> StatusInfo:
        """Start a process as a job and return its first status; `labels` find it again, others as for `execute`."""
        return self._run(calls.submitting(process_id, inputs or {}, outputs, subscriber=subscriber, labels=labels))

    def job(self, job_id: str) -> StatusInfo:
        """Return how a job stands."""
        return self._send(calls.get_job(job_id))

    def jobs(self, **filters: Any) -> Iterator[StatusInfo]:
        """Yield all jobs, newest first.

        Filters are the standard's: `status`, `processID`, `type`, `datetime`, `minDuration`, `maxDuration`, `limit`;
        and `label`.
        """
        for page in self._pages(calls.list_jobs(**filters)):
            yield from page.jobs

    def wait(
        self, job: StatusInfo | str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> StatusInfo:
        """Return the last status of a job once it has ended; `timeout` in seconds, then `WaitExpired`."""
        return self._run(calls.waiting(_id(job), timeout=timeout, on_progress=on_progress))

    def results(self, job: StatusInfo | str, *outputs: str) -> Results:
        """Return the results of a job, all or those named; large ones are links."""
        return self._send(calls.get_results(_id(job), outputs))

    def result(self, job: StatusInfo | str, output_id: str, index: int | None = None) -> bytes:
        """Return the content of one output, or of its n-th value."""
        return self._send(calls.get_result(_id(job), output_id, index))

    def save_result(self, job: StatusInfo | str, output_id: str, path: Path, index: int | None = None) -> Path:
        """Write the content of one output to a file, piece by piece, however large; it replaces what is there."""
        return self._save(calls.save_result(_id(job), output_id, path, index))

    def save_results(self, results: Results, folder: Path) -> dict[str, Any]:
        """Write what is a file to a folder and return the paths by output; other values are returned as they are."""
        return self._run(calls.saving(results, folder))

    def download(self, href: str | Link, path: Path) -> Path:
        """Write what stands at an address to a file, piece by piece; it replaces what is there."""
        return self._save(calls.download(href if isinstance(href, str) else href.href, path))

    def log(self, job: StatusInfo | str) -> str:
        """Return what the process of a job printed."""
        return self._run(calls.reading_log(_id(job)))

    def dismiss(self, job: StatusInfo | str) -> StatusInfo:
        """Stop a job, or remove one that has ended."""
        return self._send(calls.dismiss_job(_id(job)))

    def dismiss_all(self, *, dry_run: bool = False, **filters: Any) -> Dismissal:
        """Dismiss all jobs that filters select, at least one; filters as for `jobs`, and `dry_run` only counts them."""
        return self._send(calls.dismiss_jobs(filters, dry_run=dry_run))

    def again(self, job: StatusInfo | str) -> StatusInfo:
        """Send an ended job again, with the same inputs, and return the new one."""
        return self._send(calls.repeat_job(_id(job)))

    def prioritize(self, job: StatusInfo | str, priority: int) -> StatusInfo:
        """Change the priority of a waiting job, larger goes first; for operators."""
        return self._send(calls.set_priority(_id(job), priority))

    def queue(self) -> QueueInfo:
        """Return how the queue of the whole service stands; for operators."""
        return self._send(calls.get_queue())

    def hold(self, scope: str, action: Literal["pause", "drain"], reason: str = "") -> HoldInfo:
        """Hold back the ``queue``, or ``workspace:NAME``, ``process:ID``, ``worker:ID``; for operators."""
        return self._send(calls.hold(scope, action, reason))

    def release(self, scope: str) -> None:
        """Hold something back no longer; for operators."""
        self._send(calls.release(scope))

    def upload(self, path: Path, *, name: str | None = None, media_type: str | None = None) -> str:
        """Send a file and return the address that inputs accept."""
        return self._send(calls.upload_file(path, name, media_type))

    def _pages(self, first: Call[Page]) -> Iterator[Page]:
        call: Call[Page] | None = first
        while call is not None:
            page = self._send(call)
            yield page
            call = calls.next_page(page)

    def _run(self, steps: Steps[T]) -> T:
        resume = partial(steps.send, None)
        while True:
            try:
                step = resume()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return] # what a generator returns is not known to StopIteration
            try:
                resume = partial(steps.send, self._do(step))
            except ClientFault as error:
                resume = partial(steps.throw, error)

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return self._send(step)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return self._save(step)

    def _send(self, call: Call[T]) -> T:
        request = call.request
        content = _file_chunks(request.body) if isinstance(request.body, Path) else request.body
        try:
            response = self._http.request(**_arguments(self._target, request), content=content)
        except httpx2.TransportError as error:
            raise ServerUnreachable(self._target.address(request), _reason(error)) from error
        return call.read(_checked(response))

    def _save(self, step: Save) -> Path:
        part = _part_in(step.folder)
        try:
            with self._http.stream(**_arguments(self._target, step.request)) as response:
                if response.is_error:
                    response.read()
                reply = _checked(response) if response.is_error else _reply(response)
                with part.open("xb") as file:
                    for chunk in response.iter_bytes(_CHUNK):
                        file.write(chunk)
            return part.replace(step.place(reply))
        except httpx2.TransportError as error:
            raise ServerUnreachable(self._target.address(step.request), _reason(error)) from error
        finally:
            part.unlink(missing_ok=True)


class AsyncClient:
    """
    Talk to a service without blocking; the methods are those of `Client`, to be awaited.

    With `app` it must be entered (``async with``), which starts the application.
    """

    def __init__(
        self, url: str = "", *, token: str | None = None, workspace: str | None = None, app: App | None = None
    ) -> None:
        self._target = _target(url, token, workspace, app)
        self._app = app
        self._stack = AsyncExitStack()
        transport = None if app is None else transport_of(app)
        self._http = httpx2.AsyncClient(transport=transport, timeout=_TIMEOUT, follow_redirects=True)

    async def __aenter__(self) -> Self:
        if self._app is not None:
            await self._stack.enter_async_context(lifespan(self._app))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()
        await self._stack.aclose()

    async def processes(self, limit: int | None = None) -> AsyncIterator[ProcessDescription]:
        """Yield the summaries of all processes; `limit` is the size of a page."""
        async for page in self._pages(calls.list_processes(limit)):
            for process in page.processes:
                yield process

    async def process(self, process_id: str) -> ProcessDescription:
        """Return the description of a process."""
        return await self._send(calls.get_process(process_id))

    async def execute(
        self,
        process_id: str,
        inputs: Mapping[str, Any] | None = None,
        outputs: Outputs = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Results:
        """Run a process and return its results; parameters and errors as for `Client.execute`."""
        return await self._run(calls.running(process_id, inputs or {}, outputs, on_progress=on_progress))

    async def submit(
        self,
        process_id: str,
        inputs: Mapping[str, Any] | None = None,
        outputs: Outputs = None,
        *,
        subscriber: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
    ) -> StatusInfo:
        """Start a process as a job and return its first status; `labels` find it again, others as for `execute`."""
        return await self._run(
            calls.submitting(process_id, inputs or {}, outputs, subscriber=subscriber, labels=labels)
        )

    async def job(self, job_id: str) -> StatusInfo:
        """Return how a job stands."""
        return await self._send(calls.get_job(job_id))

    async def jobs(self, **filters: Any) -> AsyncIterator[StatusInfo]:
        """Yield all jobs, newest first; filters as for `Client.jobs`."""
        async for page in self._pages(calls.list_jobs(**filters)):
            for job in page.jobs:
                yield job

    async def wait(
        self,
        job: StatusInfo | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same name as in `Client`
        on_progress: OnProgress | None = None,
    ) -> StatusInfo:
        """Return the last status of a job once it has ended; `timeout` in seconds, then `WaitExpired`."""
        return await self._run(calls.waiting(_id(job), timeout=timeout, on_progress=on_progress))

    async def results(self, job: StatusInfo | str, *outputs: str) -> Results:
        """Return the results of a job, all or those named; large ones are links."""
        return await self._send(calls.get_results(_id(job), outputs))

    async def result(self, job: StatusInfo | str, output_id: str, index: int | None = None) -> bytes:
        """Return the content of one output, or of its n-th value."""
        return await self._send(calls.get_result(_id(job), output_id, index))

    async def save_result(self, job: StatusInfo | str, output_id: str, path: Path, index: int | None = None) -> Path:
        """Write the content of one output to a file, piece by piece, however large; it replaces what is there."""
        return await self._save(calls.save_result(_id(job), output_id, path, index))

    async def save_results(self, results: Results, folder: Path) -> dict[str, Any]:
        """Write what is a file to a folder and return the paths by output; other values are returned as they are."""
        return await self._run(calls.saving(results, folder))

    async def download(self, href: str | Link, path: Path) -> Path:
        """Write what stands at an address to a file, piece by piece; it replaces what is there."""
        return await self._save(calls.download(href if isinstance(href, str) else href.href, path))

    async def log(self, job: StatusInfo | str) -> str:
        """Return what the process of a job printed."""
        return await self._run(calls.reading_log(_id(job)))

    async def dismiss(self, job: StatusInfo | str) -> StatusInfo:
        """Stop a job, or remove one that has ended."""
        return await self._send(calls.dismiss_job(_id(job)))

    async def dismiss_all(self, *, dry_run: bool = False, **filters: Any) -> Dismissal:
        """Dismiss all jobs that filters select, at least one; filters as for `jobs`, and `dry_run` only counts them."""
        return await self._send(calls.dismiss_jobs(filters, dry_run=dry_run))

    async def again(self, job: StatusInfo | str) -> StatusInfo:
        """Send an ended job again, with the same inputs, and return the new one."""
        return await self._send(calls.repeat_job(_id(job)))

    async def prioritize(self, job: StatusInfo | str, priority: int) -> StatusInfo:
        """Change the priority of a waiting job, larger goes first; for operators."""
        return await self._send(calls.set_priority(_id(job), priority))

    async def queue(self) -> QueueInfo:
        """Return how the queue of the whole service stands; for operators."""
        return await self._send(calls.get_queue())

    async def hold(self, scope: str, action: Literal["pause", "drain"], reason: str = "") -> HoldInfo:
        """Hold back the ``queue``, or ``workspace:NAME``, ``process:ID``, ``worker:ID``; for operators."""
        return await self._send(calls.hold(scope, action, reason))

    async def release(self, scope: str) -> None:
        """Hold something back no longer; for operators."""
        await self._send(calls.release(scope))

    async def upload(self, path: Path, *, name: str | None = None, media_type: str | None = None) -> str:
        """Send a file and return the address that inputs accept."""
        return await self._send(calls.upload_file(path, name, media_type))

    async def _pages(self, first: Call[Page]) -> AsyncIterator[Page]:
        call: Call[Page] | None = first
        while call is not None:
            page = await self._send(call)
            yield page
            call = calls.next_page(page)

    async def _run(self, steps: Steps[T]) -> T:
        resume = partial(steps.send, None)
        while True:
            try:
                step = resume()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return] # what a generator returns is not known to StopIteration
            try:
                resume = partial(steps.send, await self._do(step))
            except ClientFault as error:
                resume = partial(steps.throw, error)

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return await self._send(step)
        if isinstance(step, Pause):
            return await anyio.sleep(step.seconds)
        return await self._save(step)

    async def _send(self, call: Call[T]) -> T:
        request = call.request
        content = _async_file_chunks(request.body) if isinstance(request.body, Path) else request.body
        try:
            response = await self._http.request(**_arguments(self._target, request), content=content)
        except httpx2.TransportError as error:
            raise ServerUnreachable(self._target.address(request), _reason(error)) from error
        return call.read(_checked(response))

    async def _save(self, step: Save) -> Path:
        part = _part_in(step.folder)
        try:
            async with self._http.stream(**_arguments(self._target, step.request)) as response:
                if response.is_error:
                    await response.aread()
                reply = _checked(response) if response.is_error else _reply(response)
                async with await anyio.open_file(part, "xb") as file:
                    async for chunk in response.aiter_bytes(_CHUNK):
                        await file.write(chunk)
            return part.replace(step.place(reply))
        except httpx2.TransportError as error:
            raise ServerUnreachable(self._target.address(step.request), _reason(error)) from error
        finally:
            part.unlink(missing_ok=True)


def _target(url: str, token: str | None, workspace: str | None, app: App | None) -> Target:
    if not url and app is None:
        raise ValueError("Client needs the address of a service, or an app")
    return Target(url=(url or ADDRESS).rstrip("/"), workspace=workspace, token=token)


def _arguments(target: Target, request: Request) -> dict[str, Any]:
    """Return what both of httpx2's clients take for a request."""
    address = target.address(request)
    arguments: dict[str, Any] = {"method": request.method, "url": address, "headers": target.headers(request, address)}
    if request.query:
        arguments["params"] = list(request.query)
    return arguments


def _checked(response: httpx2.Response) -> Reply:
    reply = _reply(response, response.content)
    if response.is_error:
        raise problem_of(reply)
    return reply


def _reply(response: httpx2.Response, content: bytes = b"") -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status=response.status_code, url=str(response.url), headers=headers, content=content)


def _reason(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__


def _part_in(folder: Path) -> Path:
    """Return where a file is written until it is complete; no two writers meet there."""
    return folder / f".{secrets.token_hex(8)}.part"


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _async_file_chunks(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(_CHUNK):
            yield chunk


def _id(job: StatusInfo | str) -> str:
    return job if isinstance(job, str) else job.id or job.job_id
