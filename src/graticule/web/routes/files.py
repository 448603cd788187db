"""Files that clients send to be used as inputs: at once, as a form, or in parts that can be continued (tus 1.0)."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import unquote

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from graticule.data.storages.local import LocalFile
from graticule.data.uploads import OCTETS, SAMPLES, PartWriter, Upload, Uploads, guess_type
from graticule.errors import (
    AccessDenied,
    ContentLost,
    InvalidBody,
    InvalidParameter,
    InvalidRange,
    NoSuchFile,
    NotAcceptable,
    StorageUnavailable,
    TooLarge,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UploadConflict,
)  # fmt: skip
from graticule.ogc.common import HTML, JSON, Document, Link, format_time
from graticule.web.parameters import LIMIT, F
from graticule.web.requests import (
    base_of,
    check_encoding,
    check_parameters,
    header,
    limit_of,
    offset_of,
    visit_of,
    whole_number,
    workspace_of,
)
from graticule.web.responses import VARY, FilePart, answer, disposition, etag, file_response, self_links
from graticule.web.routing import RANGE, Answer, Parameter, Routes

routes = Routes("Files")
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # who sends a broken form is told; nobody else need know

TUS = "1.0.0"
"""The version of the resumable protocol that is spoken here (tus.io): core, creation, creation-with-upload, expiration,
termination."""

_PAIR = "[A-Za-z0-9_-]+( ([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?"
_PAIRS = f"({_PAIR}(,{_PAIR})*)?"
"""An ``Upload-Metadata`` header: names and base64, as a regular expression."""

_PART_TYPE = "application/offset+octet-stream"
_FORM = "multipart/form-data"
_GATHERED = 1 << 20
"""Bytes that are gathered before they are written."""
_HEADER_LIMIT = 8192

_FILE_ID = Parameter(
    name="fileID", place="path", description="Identifier of a file, or `samples`.", schema={"type": "string"}
)
_NAME = Parameter(name="name", place="path", description="Name of the file.", schema={"type": "string"})
_OFFSET = Parameter(
    name="offset", description="Entries to pass over; links with rel `next` carry it.",
    schema={"type": "integer", "minimum": 0, "default": 0},
)  # fmt: skip


def _header(name: str, description: str, **schema: object) -> Parameter:
    return Parameter(name=name, place="header", description=description, schema={"type": "string", **schema})


class File(Document, frozen=True, kw_only=True):
    """What is known of a file that is kept here."""

    id: str
    name: str
    href: str
    """Any input takes it: ``{"href": …}``."""
    size: int
    media_type: str
    sha256: str | None = None
    created: str | None = None
    expires: str | None = None
    sample: bool = False
    """True for data that the service itself offers; it belongs to nobody and does not expire."""
    links: list[Link] = []


class FileList(Document, frozen=True, kw_only=True):
    """One page of files."""

    files: list[File]
    links: list[Link]


# --- sending -----------------------------------------------------------------------------------------------------


@routes.post(
    "/files",
    parameters=(
        Parameter(name="name", description="Name of the file, if no header says it.", schema={"type": "string"}),
        _header("Content-Disposition", 'May give the name: `attachment; filename="dem.tif"`.'),
        _header("Tus-Resumable", "Of tus, which sends a file in parts: the version of the protocol.", enum=[TUS]),
        _header("Upload-Length", "Bytes of the whole file; says that it comes in parts (tus).", pattern="^[0-9]+$"),
        _header(
            "Upload-Metadata",
            "Of tus: `filename` and `filetype`, each followed by its value in base64.",
            pattern=f"^{_PAIRS}$",
            example="filename ZGVtLnRpZg==,filetype aW1hZ2UvdGlmZg==",
        ),
    ),
    body=((OCTETS, "content"), (_FORM, "fileForm")),
    body_required=False,  # tus may begin with an announcement
    answers=(
        Answer(
            status=201,
            description="The file is kept, or (tus) its parts are awaited; its address is in Location.",
            content=((JSON, "file"),),
            headers=("Location", "Upload-Offset", "Upload-Expires", "Tus-Resumable"),
        ),
        Answer(status=412, description="Another version of tus is spoken here.", headers=("Tus-Version",)),
    ),
    problems=(InvalidBody, InvalidParameter, UnsupportedEncoding, TooLarge),
)
async def upload_file(request: Request) -> Response:
    """Keep a file, so that inputs can refer to it."""
    check_parameters(request.query_params, "name")
    if (refused := _other_version(request)) is not None:
        return refused
    workspace_of(request).jobs.check_disk()
    check_encoding(request)
    told = _metadata(header(request, "upload-metadata"))
    content_type = request.headers.get("content-type", "")
    is_form = content_type.partition(";")[0].strip().lower() == _FORM
    if not is_form and ("upload-length" in request.headers or "upload-defer-length" in request.headers):
        return await _create(request, told)
    _refuse_larger(request, request.headers.get("content-length", ""))
    if is_form:
        upload = await _from_form(request, content_type)
    else:
        name = request.query_params.get("name") or _disposition_name(header(request, "content-disposition"))
        upload = await _receive(request, name, content_type, request.stream())
    return _kept(request, upload)


@routes.patch(
    "/files/{fileID}/{name}",
    parameters=(
        _FILE_ID,
        _NAME,
        Parameter(
            name="Upload-Offset",
            place="header",
            description="Byte at which this part begins; HEAD tells it.",
            schema={"type": "integer", "minimum": 0},
            required=True,
        ),
        Parameter(
            name="Tus-Resumable",
            place="header",
            description="Version of the protocol.",
            schema={"type": "string", "enum": [TUS]},
            required=True,
        ),
    ),
    body=((_PART_TYPE, ""),),
    answers=(
        Answer(
            status=204, description="The part is kept.", headers=("Upload-Offset", "Upload-Expires", "Tus-Resumable")
        ),
        Answer(status=412, description="Another version of tus is spoken here.", headers=("Tus-Version",)),
    ),
    problems=(
        NoSuchFile,
        InvalidParameter,
        InvalidBody,
        UploadConflict,
        UnsupportedEncoding,
        UnsupportedMediaType,
        TooLarge,
    ),
)
async def continue_upload(request: Request) -> Response:
    """Send the next part of a file (tus)."""
    check_parameters(request.query_params)
    if "tus-resumable" not in request.headers:
        raise InvalidParameter("Tus-Resumable", "", f"name the version of the protocol, {TUS}")
    if (refused := _other_version(request)) is not None:
        return refused
    workspace_of(request).jobs.check_disk()
    upload = await _own(request)
    _require_part(request)
    offset = _number(request, "upload-offset")
    if upload.complete:
        raise UploadConflict(upload.name, upload.size)
    upload = await _take_part(request, upload.id, offset, upload.length)
    return Response(status_code=204, headers={**_tus(upload), "upload-offset": str(upload.size)})


async def _create(request: Request, told: dict[str, str]) -> Response:
    """Take on a file that comes in parts; the first one may be in this request."""
    length = _number(request, "upload-length")
    _refuse_larger(request, str(length))
    name = told.get("filename") or request.query_params.get("name") or ""
    upload = await asyncio.to_thread(_begin, request, name, told.get("filetype", ""), length)
    if not length or request.headers.get("content-type", "").partition(";")[0].strip().lower() == _PART_TYPE:
        try:
            upload = await _take_part(request, upload.id, 0, length)
        except StorageUnavailable:  # whoever is told so never learns its address
            await _remove(workspace_of(request).files, upload.id)
            raise
    return _kept(request, upload, {**_tus(upload), "upload-offset": str(upload.size)})


async def _take_part(request: Request, identifier: str, offset: int, length: int) -> Upload:
    """Add what the body holds to an upload; what came before a client hung up is kept."""
    files = workspace_of(request).files
    writer = await asyncio.to_thread(files.append, identifier, offset)
    try:
        async for piece in _pieces(request.stream()):
            if writer.size + len(piece) > length:
                raise TooLarge("the file", length, "it has more bytes than its Upload-Length said")
            await asyncio.to_thread(writer.write, piece)
    except ClientDisconnect as error:
        raise InvalidBody("the part ended before it was complete; ask by HEAD where to continue") from error
    finally:
        await asyncio.to_thread(writer.close)
    if writer.size == length:
        return await files.finish(identifier, writer.sha256, may_be_empty=True)
    return await files.get(identifier)


async def _receive(request: Request, name: str, media_type: str, content: AsyncIterator[bytes]) -> Upload:
    """Write a whole file as it comes; whatever goes wrong, nothing of it remains."""
    files, limit = workspace_of(request).files, _limit(request)
    upload = await asyncio.to_thread(_begin, request, name, media_type)
    writer: PartWriter = await asyncio.to_thread(files.append, upload.id, 0)
    try:
        async for piece in _pieces(_limited(content, limit)):
            await asyncio.to_thread(writer.write, piece)
        await asyncio.to_thread(writer.close)
        return await files.finish(upload.id, writer.sha256)
    except ClientDisconnect as error:
        await _give_up(files, writer)
        raise InvalidBody("the body ended before it was complete") from error
    except BaseException:
        await _give_up(files, writer)
        raise


async def _limited(content: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield content until it is known to be too large."""
    size = 0
    async for chunk in content:
        size += len(chunk)
        if limit and size > limit:
            raise _too_large(limit)
        yield chunk


async def _give_up(files: Uploads, writer: PartWriter) -> None:
    with suppress(StorageUnavailable):
        await asyncio.to_thread(writer.close)
    await _remove(files, writer.upload.id)


async def _remove(files: Uploads, identifier: str) -> None:
    with suppress(StorageUnavailable):  # that has nothing of it
        await files.remove(identifier)


def _begin(request: Request, name: str, media_type: str, length: int = 0) -> Upload:
    hours = visit_of(request).parts.settings.storage.upload_expiry_hours
    expiry = timedelta(hours=hours) if hours else None
    workspace = workspace_of(request)
    return workspace.files.begin(name, media_type=media_type, actor=workspace.actor, length=length, expiry=expiry)


async def _pieces(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield content in pieces that are worth a trip to the disk; what came before a client hung up is not lost."""
    gathered = bytearray()
    hung_up: ClientDisconnect | None = None
    try:
        async for chunk in content:
            gathered += chunk
            if len(gathered) >= _GATHERED:
                yield bytes(gathered)
                gathered.clear()
    except ClientDisconnect as error:
        hung_up = error
    if gathered:
        yield bytes(gathered)
    if hung_up is not None:
        raise hung_up


# --- forms -------------------------------------------------------------------------------------------------------


async def _from_form(request: Request, content_type: str) -> Upload:
    """Keep the field ``file`` of a form."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidBody("the form has no boundary; let the client library set the Content-Type of a form")
    form = _Form(boundary)
    content = form.content(request.stream())
    try:
        first = await anext(content, None)
        if first is None or form.filename is None:
            raise InvalidBody("the form has no file in a field named 'file'")
        return await _receive(request, form.filename, form.media_type, _after(first, content))
    except FormParserError as error:
        raise InvalidBody(f"the form cannot be read: {error}") from error
    except ClientDisconnect as error:
        raise InvalidBody("the body ended before it was complete") from error


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


class _Form:
    """Picks the content of the field ``file`` out of a form, piece by piece.

    Parameters
    ----------
    boundary : bytes
        What parts the fields.
    """

    def __init__(self, boundary: bytes) -> None:
        self.filename: str | None = None
        """None until the field has come."""
        self.media_type = ""
        self._wanted = False
        self._ended = False
        self._found = bytearray()
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._name,
                "on_header_value": self._content,
                "on_header_end": self._header,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    async def content(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the file as it comes; an empty piece says that it has begun."""
        begun = False
        async for chunk in stream:
            self._parser.write(chunk)
            if self._found or (not begun and self.filename is not None):
                begun = True
                yield bytes(self._found)
                self._found.clear()
        self._parser.finalize()
        if not self._ended:
            raise InvalidBody("the form ended before it was complete")

    def _begin(self) -> None:
        self._headers, self._wanted = {}, False

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > _HEADER_LIMIT:
            raise FormParserError("a header of a field is too long")

    def _header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") != b"file":
            return
        if self.filename is not None:
            raise InvalidBody("the form has a second field named 'file'; send each file in a request of its own")
        self._wanted = True
        self.filename = options.get(b"filename", b"").decode(errors="replace")
        self.media_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._found += data[start:end]

    def _end(self) -> None:
        self._ended = True


# --- looking and fetching ----------------------------------------------------------------------------------------


@routes.get(
    "/files",
    parameters=(LIMIT, _OFFSET, F),
    answers=(
        Answer(
            status=200,
            description="A page of files: uploads, newest first, then samples.",
            content=((JSON, "fileList"), (HTML, "")),
        ),
    ),
    problems=(InvalidParameter, NotAcceptable),
)
async def list_files(request: Request) -> Response:
    """List the files that inputs can refer to."""
    query, limits, base = request.query_params, visit_of(request).parts.settings.limits, base_of(request)
    check_parameters(query, "limit", "offset", "f")
    limit, offset = limit_of(query, limits.page_size, limits.page_max), offset_of(query)
    files = workspace_of(request).files
    uploads = [upload for upload in await files.complete() if _is_own(request, upload)]
    samples = files.samples()
    page = [_file(upload, base) for upload in uploads[offset : offset + limit]]
    page += [_sample(path, base) for path in samples[max(0, offset - len(uploads)) :][: limit - len(page)]]
    links = self_links(request)
    if offset + limit < len(uploads) + len(samples):
        links.append(Link(href=f"{base}/files?limit={limit}&offset={offset + limit}", rel="next", type=JSON))
    if offset > 0:
        links.append(Link(href=f"{base}/files?limit={limit}&offset={max(0, offset - limit)}", rel="prev", type=JSON))
    spoken = {"tus-version": TUS, "tus-resumable": TUS}
    return answer(request, FileList(files=page, links=links), page="files", headers=spoken)


@routes.get(
    "/files/{fileID}",
    parameters=(_FILE_ID, F),
    answers=(Answer(status=200, description="What is known of it.", content=((JSON, "file"), (HTML, ""))),),
    problems=(NoSuchFile, InvalidParameter, NotAcceptable),
)
async def describe_file(request: Request) -> Response:
    """Tell name, size, checksum and expiry of an uploaded file."""
    check_parameters(request.query_params, "f")
    upload = await _own(request)
    return answer(request, _file(upload, base_of(request)), page="file")


@routes.get(
    "/files/{fileID}/{name}",
    parameters=(_FILE_ID, _NAME),
    answers=(
        Answer(
            status=200,
            description="Its content. HEAD of a file that comes in parts tells where to continue.",
            content=(("*/*", ""),),
            headers=("ETag", "Repr-Digest", "Upload-Offset", "Upload-Length", "Upload-Expires", "Tus-Resumable"),
        ),
        RANGE,
    ),
    problems=(NoSuchFile, InvalidParameter, InvalidRange, UploadConflict, ContentLost),
)
async def download_file(request: Request) -> Response:
    """Return a file."""
    check_parameters(request.query_params)
    files, identifier, name = workspace_of(request).files, request.path_params["fileID"], request.path_params["name"]
    if identifier == SAMPLES:
        path = files.sample(name)
        if path is None:
            raise NoSuchFile(name)
        status = path.stat()
        tag = etag(f"{name} {status.st_size} {status.st_mtime_ns}".encode())
        return _content(request, FilePart(LocalFile(path), status.st_size), guess_type(name), tag)
    upload = await _own(request)
    if request.method == "HEAD" and (not upload.complete or "tus-resumable" in request.headers):
        progress = {"upload-offset": str(upload.size), "upload-length": str(upload.length), "cache-control": "no-store"}
        return Response(headers={**_tus(upload), **progress})
    if not upload.complete:
        raise UploadConflict(name, upload.size)
    part = FilePart(files.content(upload), upload.size)
    return _content(request, part, upload.media_type, f'"{upload.sha256[:32]}"', upload.sha256)


@routes.delete(
    "/files/{fileID}",
    parameters=(_FILE_ID,),
    answers=(Answer(status=204, description="It is removed."),),
    problems=(NoSuchFile, InvalidParameter, AccessDenied),
    operation="delete_file_by_id",
)
@routes.delete(
    "/files/{fileID}/{name}",
    parameters=(_FILE_ID, _NAME),
    answers=(Answer(status=204, description="It is removed.", headers=("Tus-Resumable",)),),
    problems=(NoSuchFile, InvalidParameter, AccessDenied),
)
async def delete_file(request: Request) -> Response:
    """Remove a file before it expires."""
    check_parameters(request.query_params)
    if request.path_params["fileID"] == SAMPLES:
        raise AccessDenied(workspace_of(request).actor, "remove sample data")
    upload = await _own(request)
    await workspace_of(request).files.remove(upload.id)
    return Response(status_code=204, headers={"tus-resumable": TUS})


async def _own(request: Request) -> Upload:
    """Return the upload that the address names, if it is there and the actor's."""
    values = request.path_params
    upload = await workspace_of(request).files.get(values["fileID"])
    if values.get("name", upload.name) != upload.name or not _is_own(request, upload):
        raise NoSuchFile(values.get("name", values["fileID"]))
    return upload


def _is_own(request: Request, upload: Upload) -> bool:
    """Whether the actor may see a file: where actors are known by tokens, each sees its own."""
    return not visit_of(request).parts.settings.security.tokens or upload.actor == workspace_of(request).actor


def _content(request: Request, part: FilePart, media_type: str, tag: str, sha256: str = "") -> Response:
    """Return content that a stranger made: saved rather than shown, and with no rights if it is shown after all."""
    headers = {
        "content-disposition": disposition("attachment", part.file.name),
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return file_response(request, part, media_type=media_type, tag=tag, sha256=sha256, headers=headers)


# --- documents and headers ---------------------------------------------------------------------------------------


def _kept(request: Request, upload: Upload, headers: dict[str, str] | None = None) -> Response:
    document = _file(upload, base_of(request))
    headers = {"location": document.href, "vary": VARY, **(headers or {})}
    return Response(msgspec.json.encode(document), 201, headers, media_type=JSON)


def _file(upload: Upload, base: str) -> File:
    href = f"{base}/files/{upload.address}"
    return File(
        id=upload.id,
        name=upload.name,
        href=href,
        size=upload.size,
        media_type=upload.media_type,
        sha256=upload.sha256 or None,
        created=format_time(_moment(upload.created)),
        expires=format_time(_moment(upload.expires)) if upload.expires else None,
        links=[
            Link(href=f"{base}/files/{upload.id}", rel="self", type=JSON),
            Link(href=href, rel="enclosure", type=upload.media_type, title=upload.name, length=upload.size),
            Link(href=f"{base}/files", rel="up", type=JSON, title="All files"),
        ],
    )


def _sample(path: Path, base: str) -> File:
    href = f"{base}/files/{SAMPLES}/{path.name}"
    status, media_type = path.stat(), guess_type(path.name)
    link = Link(href=href, rel="enclosure", type=media_type, title=path.name, length=status.st_size)
    return File(
        id=SAMPLES, name=path.name, href=href, size=status.st_size, media_type=media_type, sample=True, links=[link]
    )


def _tus(upload: Upload) -> dict[str, str]:
    expires = format_datetime(_moment(upload.expires), usegmt=True) if upload.expires else ""
    return {"tus-resumable": TUS, **({"upload-expires": expires} if expires else {})}


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _other_version(request: Request) -> Response | None:
    """Return the protocol's own answer to a version that is not spoken here."""
    if request.headers.get("tus-resumable", TUS) == TUS:
        return None
    return Response(status_code=412, headers={"tus-version": TUS, "tus-resumable": TUS})


def _require_part(request: Request) -> None:
    check_encoding(request)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _PART_TYPE:
        raise UnsupportedMediaType(content_type, [_PART_TYPE])


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    spelling = name.title()
    if not re.fullmatch(r"[0-9]+", text):
        raise InvalidParameter(spelling, text, f"send the header {spelling} with a whole number of bytes")
    return whole_number(text)


def _metadata(text: str) -> dict[str, str]:
    """Return the pairs of an ``Upload-Metadata`` header."""
    if not re.fullmatch(_PAIRS, re.sub(r",\s+", ",", text)):
        raise InvalidParameter("Upload-Metadata", text, "send pairs of a name and its value, UTF-8 in base64")
    told = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition(" ")
        told[name] = base64.b64decode(value).decode(errors="replace")
    return told


def _disposition_name(text: str) -> str:
    """Return the file name of a ``Content-Disposition`` header (RFC 6266); empty if it has none."""
    extended = re.search(r"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", text, re.IGNORECASE)
    if extended:
        return unquote(extended[1])
    _, options = parse_options_header(text)
    return options.get(b"filename", b"").decode(errors="replace")


def _limit(request: Request) -> int:
    return visit_of(request).parts.settings.server.upload_limit_mib << 20


def _refuse_larger(request: Request, declared: str) -> None:
    limit = _limit(request)
    if limit and declared.isdecimal() and whole_number(declared) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        "the file", limit, "server.upload_limit_mib sets the limit; offer the file on a web server and give its href"
    )
