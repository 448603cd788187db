"""Every call of the API once: what to ask, and how to read the answer. Journeys of several calls stand below."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from graticule.client.transport import (
    Call,
    ClientFault,
    NotAsynchronous,
    Pause,
    Reply,
    Request,
    Save,
    Steps,
    UnexpectedAnswer,
    WaitExpired,
    resolved,
)
from graticule.ogc.common import PROFILE, Document, Link
from graticule.ogc.jobs import JobList, StatusInfo
from graticule.ogc.operations import Dismissal, HoldInfo, HoldRequest, Priority, QueueInfo
from graticule.ogc.processes import ProcessDescription

OnProgress = Callable[[StatusInfo], None]

_SHORTEST_PAUSE_S = 0.05
_RESULTS_PROFILE = f"{PROFILE}ogc-results"
_RESULTS_HEADERS = {
    # Other media types only for a service that knows no profile and answers a single output as it is.
    "Accept": "application/json, */*;q=0.1",
    "Accept-Profile": f"<{_RESULTS_PROFILE}>",
    "Prefer": "return=minimal",
}

_ANYTHING = {"Accept": "*/*"}


class ProcessList(Document, frozen=True, kw_only=True):
    """One page of processes (processList.yaml)."""

    processes: list[ProcessDescription]
    links: list[Link] = []


Page = TypeVar("Page", ProcessList, JobList)


class Uploaded(Document, frozen=True, kw_only=True):
    """What the service says of a file that it keeps."""

    href: str


# --- single calls ------------------------------------------------------------------------------------------------


def list_processes(limit: int | None = None) -> Call[ProcessList]:
    """Ask for the first page of processes."""
    return Call(Request(path="/processes", query=_query(limit=limit)), _reader(ProcessList))


def get_process(process_id: str) -> Call[ProcessDescription]:
    """Ask for the description of a process."""
    return Call(Request(path=f"/processes/{_segment(process_id)}"), _reader(ProcessDescription))


def execute_process(process_id: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Call[Results | StatusInfo]:
    """Ask to run a process; the answer is results, or a job where the service decided so."""
    request = Request(
        method="POST",
        path=f"/processes/{_segment(process_id)}/execution",
        headers={"Content-Type": "application/json", **headers},
        body=msgspec.json.encode(body),
    )
    only = next(iter(body["outputs"])) if len(body.get("outputs") or ()) == 1 else "result"
    return Call(request, lambda reply: _created_job(reply) if reply.status == 201 else _results(reply, only))


def get_job(job_id: str) -> Call[StatusInfo]:
    """Ask how a job stands."""
    return Call(Request(path=f"/jobs/{_segment(job_id)}"), _reader(StatusInfo))


def poll_job(job_id: str) -> Call[Polled]:
    """Ask how a job stands, and when to ask again."""
    return Call(
        Request(path=f"/jobs/{_segment(job_id)}"), lambda reply: Polled(reply.read(StatusInfo), _retry_after(reply))
    )


def list_jobs(**filters: Any) -> Call[JobList]:
    """Ask for the first page of jobs; filters are the query parameters of the standard, lists are repeated."""
    return Call(Request(path="/jobs", query=_query(**filters)), _reader(JobList))


def next_page(page: Page) -> Call[Page] | None:
    """Ask for the page after this one; None if this is the last."""
    href = next((link.href for link in page.links if link.rel == "next"), None)
    return None if href is None else Call(Request(path=href), _reader(type(page)))


def get_results(job_id: str, outputs: Sequence[str] = ()) -> Call[Results]:
    """Ask for the results of a job, large ones as links."""
    query = (("outputs", ",".join(outputs)),) if outputs else ()
    request = Request(path=f"/jobs/{_segment(job_id)}/results", query=query, headers=_RESULTS_HEADERS)

    def read(reply: Reply) -> Results:
        results = _results(reply, outputs[0] if len(outputs) == 1 else "result")
        return replace(results, href=reply.url.partition("?")[0])

    return Call(request, read)


def get_result(job_id: str, output_id: str, index: int | None = None) -> Call[bytes]:
    """Ask for the content of one output, or of one of its values."""
    return Call(_result_request(job_id, output_id, index), lambda reply: reply.content)


def save_result(job_id: str, output_id: str, path: Path, index: int | None = None) -> Save:
    """Write the content of one output to a file."""
    return Save(_result_request(job_id, output_id, index), path.parent, lambda _: path)


def download(href: str, path: Path) -> Save:
    """Write what stands at an address to a file."""
    return Save(Request(path=href, headers=_ANYTHING), path.parent, lambda _: path)


def dismiss_job(job_id: str) -> Call[StatusInfo]:
    """Ask to stop a job, or to remove one that has ended."""
    return Call(Request(method="DELETE", path=f"/jobs/{_segment(job_id)}"), _reader(StatusInfo))


def dismiss_jobs(filters: Mapping[str, Any], *, dry_run: bool) -> Call[Dismissal]:
    """Ask to dismiss all jobs that filters select, or only to count them."""
    query = _query(**filters, dryRun="true" if dry_run else None)
    return Call(Request(method="DELETE", path="/jobs", query=query), _reader(Dismissal))


def repeat_job(job_id: str) -> Call[StatusInfo]:
    """Ask to send an ended job again; the answer is the new one."""
    return Call(Request(method="POST", path=f"/jobs/{_segment(job_id)}/again"), _created_job)


def set_priority(job_id: str, priority: int) -> Call[StatusInfo]:
    """Ask to change the priority of a waiting job."""
    return Call(_put(f"/jobs/{_segment(job_id)}/priority", Priority(priority=priority)), _reader(StatusInfo))


def get_queue() -> Call[QueueInfo]:
    """Ask how the queue of the whole service stands."""
    return Call(Request(path="/admin/queue"), _reader(QueueInfo))


def hold(scope: str, action: Literal["pause", "drain"], reason: str) -> Call[HoldInfo]:
    """Ask to hold something back."""
    return Call(_put(f"/admin/holds/{_segment(scope)}", HoldRequest(action=action, reason=reason)), _reader(HoldInfo))


def release(scope: str) -> Call[None]:
    """Ask to hold something back no longer."""
    return Call(Request(method="DELETE", path=f"/admin/holds/{_segment(scope)}"), lambda _: None)


def _put(path: str, document: Document) -> Request:
    headers = {"Content-Type": "application/json"}
    return Request(method="PUT", path=path, headers=headers, body=msgspec.json.encode(document))


def get_text(href: str) -> Call[str]:
    """Ask for a text, e.g. a log."""
    request = Request(path=href, headers={"Accept": "text/plain, */*;q=0.1"})
    return Call(request, lambda reply: reply.content.decode("utf-8", "replace"))


def upload_file(path: Path, name: str | None = None, media_type: str | None = None) -> Call[str]:
    """Send a file; the answer is the address that inputs accept."""
    name = name or path.name
    request = Request(
        method="POST",
        path="/files",
        room="workspace",
        query=(("name", name),),
        headers={"Content-Type": media_type or media_type_of(name), "Content-Length": str(path.stat().st_size)},
        body=path,
    )
    return Call(request, _uploaded)


# --- journeys ----------------------------------------------------------------------------------------------------


def running(
    process_id: str, inputs: Mapping[str, Any], outputs: Outputs, *, on_progress: OnProgress | None
) -> Steps[Results]:
    """Run a process and return its results; wait for the job where the service makes one of it."""
    body = yield from _execute_body(inputs, outputs)
    answer = yield execute_process(process_id, body, _RESULTS_HEADERS)
    if isinstance(answer, Results):
        return answer
    yield from waiting(answer.id, timeout=None, on_progress=on_progress)
    results: Results = yield get_results(answer.id)
    return results


def submitting(
    process_id: str,
    inputs: Mapping[str, Any],
    outputs: Outputs,
    *,
    subscriber: Mapping[str, Any] | None,
    labels: Sequence[str],
) -> Steps[StatusInfo]:
    """Start a process as a job and return its first status."""
    body = yield from _execute_body(inputs, outputs)
    if subscriber:
        body["subscriber"] = dict(subscriber)
    if labels:
        body["labels"] = list(labels)
    answer = yield execute_process(process_id, body, {"Prefer": "respond-async"})
    if isinstance(answer, Results):
        raise NotAsynchronous(process_id)
    job: StatusInfo = answer
    return job


def waiting(job_id: str, *, timeout: float | None, on_progress: OnProgress | None) -> Steps[StatusInfo]:
    """Ask for a job until it has ended: as often as the service says, else less and less often, each 5 s at last."""
    waited, pause = 0.0, _SHORTEST_PAUSE_S
    while True:
        polled: Polled = yield poll_job(job_id)
        if on_progress is not None:
            on_progress(polled.job)
        if polled.job.ended:
            return polled.job
        if timeout is not None and waited >= timeout:
            raise WaitExpired(job_id, timeout)
        # A service that says 0 must not be asked without end.
        seconds = pause if polled.retry_after is None else max(polled.retry_after, _SHORTEST_PAUSE_S)
        seconds = seconds if timeout is None else min(seconds, timeout - waited)
        yield Pause(seconds)
        waited, pause = waited + seconds, min(pause * 1.5, 5.0)


def reading_log(job_id: str) -> Steps[str]:
    """Return what the process printed, from the link whose title begins with ``Tool log``."""
    job: StatusInfo = yield get_job(job_id)
    href = next((link.href for link in job.links if (link.title or "").startswith("Tool log")), None)
    if href is None:
        return ""
    text: str = yield get_text(href)
    return text


def saving(results: Results, folder: Path) -> Steps[dict[str, Any]]:
    """Write what is a file to `folder`, links fetched; return the paths, and other values as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    saved: dict[str, Any] = {}
    for output_id, entry in results.document.items():
        if not has_several(entry):
            saved[output_id] = yield from _saved(results, output_id, None, folder)
            continue
        saved[output_id] = []
        for index in range(len(entry)):
            saved[output_id].append((yield from _saved(results, output_id, index, folder)))
    return saved


def _saved(results: Results, output_id: str, index: int | None, folder: Path) -> Steps[Any]:
    entry = results.document[output_id]
    entry = entry if index is None else entry[index]
    value = decoded(entry)
    if isinstance(value, Link):
        href, media_type = value.href, value.type

        def place(reply: Reply) -> Path:
            return free_path(folder, file_name(output_id, told=_told_name(reply), href=href, media_type=media_type))

        return (yield Save(Request(path=href, headers=_ANYTHING), folder, place))
    if isinstance(value, bytes):
        told = yield from _asked_name(results, output_id, index)
        path = free_path(folder, file_name(output_id, told=told, media_type=entry.get("mediaType")))
        path.write_bytes(value)
        return path
    return value


def _asked_name(results: Results, output_id: str, index: int | None) -> Steps[str]:
    """Return the file name of content that came within a document, which has no place for it."""
    if output_id in results.names or not results.href:
        return results.names.get(output_id, "")
    address = "/".join([results.href, _segment(output_id), *([] if index is None else [str(index)])])
    try:
        told: str = yield Call(Request(method="HEAD", path=address, headers=_ANYTHING), _told_name)
    except ClientFault:
        return ""  # the content is here; a service that does not tell its name need not fail for that
    return told


def _told_name(reply: Reply) -> str:
    """Return the file name of a ``Content-Disposition`` header (RFC 6266); empty if there is none."""
    message = Message()
    message["Content-Disposition"] = reply.headers.get("content-disposition", "")
    return message.get_filename("")


def _execute_body(inputs: Mapping[str, Any], outputs: Outputs) -> Steps[dict[str, Any]]:
    """Return an execute request; local files among the inputs are uploaded first."""
    hrefs: dict[Path, str] = {}
    for path in local_files(inputs):
        if path not in hrefs:
            hrefs[path] = yield upload_file(path)
    body: dict[str, Any] = {"inputs": {name: encoded(value, hrefs) for name, value in inputs.items()}}
    if outputs is not None:
        body["outputs"] = dict(outputs) if isinstance(outputs, Mapping) else {name: {} for name in outputs}
    return body


# --- values ------------------------------------------------------------------------------------------------------

Outputs = Mapping[str, Any] | Sequence[str] | None
"""Outputs that are wanted: names, or names with how each is wanted. None: all."""


@dataclass(frozen=True, slots=True)
class Polled:
    """A job and when its service wants to be asked again."""

    job: StatusInfo
    retry_after: float | None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Results(Mapping[str, Any]):
    """Results of a job by output identifier: JSON values as they are, binary as `bytes`, references as `Link`."""

    document: Mapping[str, Any]
    """The results document as it came (results.yaml)."""

    href: str = ""
    """Address below which each output stands alone; empty if the service named no job."""

    names: Mapping[str, str] = field(default_factory=dict)
    """File names by output, where the service told them with the content."""

    def __getitem__(self, output_id: str) -> Any:
        entry = self.document[output_id]
        return [decoded(item) for item in entry] if isinstance(entry, list) else decoded(entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)


def has_several(entry: Any) -> bool:
    """Whether an entry of a results document is several values, and not one value that is an array itself."""
    return isinstance(entry, list) and any(
        isinstance(item, dict) and ({"href", "value"} & item.keys()) for item in entry
    )


def decoded(entry: Any) -> Any:
    """Return the value of one entry of a results document."""
    if not isinstance(entry, dict):
        return entry
    if "href" in entry:
        return msgspec.convert({name: entry[name] for name in entry if name in Link.__struct_fields__}, Link)
    if "value" not in entry:
        return entry
    if entry.get("encoding") == "base64" and isinstance(entry["value"], str):
        return base64.b64decode(entry["value"])
    return entry["value"]


def encoded(value: Any, hrefs: Mapping[Path, str]) -> Any:
    """Return a value as it stands in an execute request: files as links, bytes as base64, objects qualified."""
    if isinstance(value, Path):
        return {"href": hrefs[value], "type": media_type_of(value.name)}
    if isinstance(value, bytes):
        return {"value": base64.b64encode(value).decode(), "encoding": "base64"}
    if isinstance(value, Link):
        return msgspec.to_builtins(value)
    if isinstance(value, dict) and not _stands_alone(value):
        return {"value": value}
    if isinstance(value, list | tuple):
        return [encoded(item, hrefs) for item in value]
    return value


def _stands_alone(value: dict[str, Any]) -> bool:
    """Whether an object is a value of its own kind, so that it needs no wrapping; GeoJSON may have a bbox too."""
    return bool({"value", "href", "collection", "process"} & value.keys()) or ("bbox" in value and "type" not in value)


def local_files(inputs: Mapping[str, Any]) -> list[Path]:
    """Return the files of this machine among the inputs."""
    values = [item for value in inputs.values() for item in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in values if isinstance(value, Path)]


_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".gpkg": "application/geopackage+sqlite3",
    ".nc": "application/netcdf",
}


def media_type_of(name: str) -> str:
    """Return the media type that the end of a file's name speaks for."""
    suffix = Path(name).suffix.lower()
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def suffix_of(media_type: str | None) -> str:
    """Return the end that a file of a media type has, e.g. ``.tif``; empty if it is not known."""
    wanted = (media_type or "").partition(";")[0].strip().lower()
    known = {kind.partition(";")[0]: suffix for suffix, kind in reversed(_MEDIA_TYPES.items())}
    return known.get(wanted) or mimetypes.guess_extension(wanted) or ""


def file_name(output_id: str, *, told: str = "", href: str = "", media_type: str | None = None) -> str:
    """
    Return a name for the file of an output that cannot lead out of a folder.

    Parameters
    ----------
    output_id : str
        The output; the file is named after it if nothing else says more.
    told : str
        The name that the service gives the file; its last part counts.
    href : str
        Address of the content; it names the file if its last part has an end.
    media_type : str, optional
        Of the content; it gives the end of a name that is made from the output.
    """
    last = unquote(urlsplit(href).path.rpartition("/")[2])
    name = re.split(r"[/\\]", told)[-1] or (last if "." in last else output_id + suffix_of(media_type))
    safe = Path(re.sub(r"[^\w.\-]+", "_", name).lstrip(".") or "result")
    return safe.stem[:80] + safe.suffix[:20]


def free_path(folder: Path, name: str) -> Path:
    """Take a path in `folder` where nothing stands yet: ``shade.tif``, else ``shade-1.tif`` and so on.

    It is made as an empty file, so that nobody who writes there at the same time takes it too.
    """
    path, number = folder / name, 0
    while True:
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        else:
            return path


# --- reading -----------------------------------------------------------------------------------------------------


def _reader(kind: type[Any]) -> Callable[[Reply], Any]:
    return lambda reply: _absolute(reply.read(kind), reply.url)


def _absolute(document: Any, base: str) -> Any:
    """Return a document whose links are absolute."""
    links = getattr(document, "links", None)
    if not links or all("://" in link.href for link in links):
        return document
    absolute = [msgspec.structs.replace(link, href=resolved(base, link.href)) for link in links]
    return msgspec.structs.replace(document, links=absolute)


def _created_job(reply: Reply) -> StatusInfo:
    job = _absolute(reply.read(StatusInfo), reply.url)
    job_id = job.id or job.job_id or reply.headers.get("location", "").rstrip("/").rpartition("/")[2]
    if not job_id:
        raise UnexpectedAnswer(reply.url, "it made a job and does not say which")
    filled: StatusInfo = msgspec.structs.replace(job, id=job_id, job_id=job_id)
    return filled


def _results(reply: Reply, only: str) -> Results:
    """Return results from a results document, or from a single output as it is, which is then named `only`."""
    if reply.status == 204 or not reply.content:
        return Results({})
    links = reply.headers.get("link", "")
    if _RESULTS_PROFILE.partition(":")[2] in links:
        monitor = re.search(r'<([^>]*)>\s*;[^,<]*rel="?monitor', links)
        href = f"{resolved(reply.url, monitor[1])}/results" if monitor else ""
        return Results(reply.read(dict[str, Any]), href)
    if reply.media_type == "application/json":
        document = reply.read(Any)
        return Results(document if isinstance(document, dict) else {only: document})
    if reply.media_type.endswith("+json"):
        return Results({only: {"value": reply.read(Any), "mediaType": reply.media_type}})
    if reply.media_type.startswith("text/"):
        return Results({only: {"value": reply.content.decode("utf-8", "replace"), "mediaType": reply.media_type}})
    value = base64.b64encode(reply.content).decode()
    entry = {"value": value, "encoding": "base64", "mediaType": reply.headers.get("content-type")}
    return Results({only: entry}, names={only: _told_name(reply)})


def _uploaded(reply: Reply) -> str:
    location = reply.headers.get("location")
    return resolved(reply.url, location) if location else resolved(reply.url, reply.read(Uploaded).href)


def _retry_after(reply: Reply) -> float | None:
    """Return the seconds that the service wants to be left alone; a date is not worth its reading here."""
    text = reply.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _result_request(job_id: str, output_id: str, index: int | None) -> Request:
    path = f"/jobs/{_segment(job_id)}/results/{_segment(output_id)}"
    return Request(path=path if index is None else f"{path}/{index}", headers=_ANYTHING)


def _query(**parameters: Any) -> tuple[tuple[str, str], ...]:
    pairs = [
        (name, item)
        for name, value in parameters.items()
        if value is not None
        for item in (value if isinstance(value, list | tuple) else [value])
    ]
    return tuple((name, str(item)) for name, item in pairs)


def _segment(text: str) -> str:
    return quote(text, safe="")
