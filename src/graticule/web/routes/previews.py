"""Small pictures of raster results."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from graticule.data.storage import read_all
from graticule.errors import ContentLost, OutputNotProduced, ResultNotAvailable, StorageUnavailable
from graticule.jobs.job import Job, StoredValue
from graticule.jobs.results import ResultStore
from graticule.web.requests import header, visit_of, whole_number, workspace_of
from graticule.web.responses import matches
from graticule.web.routing import Routes

routes = Routes("Pages")

_SECONDS = 30.0
"""After which a picture is given up."""

_AT_ONCE = 2
"""Pictures that are drawn at the same time; others wait."""

_SIGNED_S = 60
"""For which the drawing process may read a raster in the storage."""

_turns = asyncio.Semaphore(_AT_ONCE)


@routes.get("/jobs/{jobID}/results/{outputID}/{index}/preview.png", hidden=True)
async def get_preview(request: Request) -> Response:
    """Return a raster result as a PNG of at most 1024 pixels; it is drawn once and kept with the result."""
    values = request.path_params
    job = await workspace_of(request).jobs.results(values["jobID"])
    output, index = job.outputs().get(values["outputID"]), values["index"]
    if output is None or not index.isdecimal() or whole_number(index) >= len(output.values):
        raise OutputNotProduced(job.id, f"{values['outputID']}/{index}")
    value = output.values[int(index)]
    tag = f'"{value.sha256[:24]}-preview"'
    headers = {"etag": tag, "cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
    if matches(header(request, "if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(await _picture(request, job, value), headers=headers, media_type="image/png")


async def _picture(request: Request, job: Job, value: StoredValue) -> bytes:
    parts = visit_of(request).parts
    store = parts.engine.results
    with tempfile.TemporaryDirectory(dir=parts.settings.home / "scratch", prefix="preview-") as folder:
        if value.file is None:  # a raster that is small enough to be kept in the ledger
            source = Path(folder) / "raster"
            await asyncio.to_thread(source.write_bytes, value.content or b"")
            return await _draw(job, str(source))
        with suppress(ContentLost):
            return await read_all(store.picture(job, value))
        kept = store.value(job, value)
        content = await _draw(job, str(kept.path or kept.signed_url(seconds=_SIGNED_S)))
        await _keep(store, job, value, Path(folder), content)
        return content


async def _draw(job: Job, source: str) -> bytes:
    """Draw in a process of its own, which knows nothing of this service but the one file."""
    code = "import sys; sys.path[:] = eval(sys.argv[1]); from graticule.data.preview import main; main(input())"
    async with _turns:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, repr(sys.path),
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            # Not as an argument: whoever lists processes would see a signed address.
            content, _ = await asyncio.wait_for(process.communicate(f"{source}\n".encode()), _SECONDS)
        except BaseException as error:
            process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise ResultNotAvailable(job.id, f"no picture of it within {_SECONDS:g} s; download it") from error
            raise
    if process.returncode != 0 or not content:
        raise ResultNotAvailable(job.id, "no picture can be made of it; download it")
    return content


async def _keep(store: ResultStore, job: Job, value: StoredValue, folder: Path, content: bytes) -> None:
    """Keep a picture beside its result; without it, it is drawn again."""
    picture = folder / "picture"
    try:
        await asyncio.to_thread(picture.write_bytes, content)
        await store.keep_picture(job, value, picture)
    except (OSError, StorageUnavailable):
        return
