"""Small pictures of raster results."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import OutputNotProduced, ResultNotAvailable
from graticule.jobs.job import Job, StoredValue
from graticule.web.requests import header, visit_of, workspace_of
from graticule.web.responses import matches
from graticule.web.routing import Routes

routes = Routes("Pages")

_SECONDS = 30.0
"""After which a picture is given up."""

_AT_ONCE = 2
"""Pictures that are drawn at the same time; others wait."""

_turns = asyncio.Semaphore(_AT_ONCE)


@routes.get("/jobs/{jobID}/results/{outputID}/{index}/preview.png", hidden=True)
async def get_preview(request: Request) -> Response:
    """Return a raster result as a PNG of at most 1024 pixels; it is drawn once and kept with the result."""
    values = request.path_params
    job = await workspace_of(request).jobs.results(values["jobID"])
    output, index = job.outputs().get(values["outputID"]), values["index"]
    if output is None or not index.isdecimal() or int(index) >= len(output.values):
        raise OutputNotProduced(job.id, f"{values['outputID']}/{index}")
    value = output.values[int(index)]
    tag = f'"{value.sha256[:24]}-preview"'
    headers = {"etag": tag, "cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}
    if matches(header(request, "if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(await _picture(request, job, value), headers=headers, media_type="image/png")


async def _picture(request: Request, job: Job, value: StoredValue) -> bytes:
    store = workspace_of(request).jobs.engine.results
    if value.file is None:
        return await _draw_content(job, value.content or b"", visit_of(request).parts.settings.home)
    source = store.path_of(job.key, value)
    kept = source.parent.parent / "previews" / f"{source.name}.png"
    if not kept.is_file():
        content = await _draw(job, source)
        await asyncio.to_thread(_keep, kept, content)
        return content
    return await asyncio.to_thread(kept.read_bytes)


async def _draw_content(job: Job, content: bytes, home: Path) -> bytes:
    """Draw a raster that is small enough to be kept in the ledger."""
    with tempfile.TemporaryDirectory(dir=home / "scratch", prefix="preview-") as folder:
        source = Path(folder) / "raster"
        await asyncio.to_thread(source.write_bytes, content)
        return await _draw(job, source)


async def _draw(job: Job, source: Path) -> bytes:
    """Draw in a process of its own, which knows nothing of this service but the one file."""
    code = "import sys; sys.path[:] = eval(sys.argv[2]); from graticule.data.preview import main; main(sys.argv[1])"
    async with _turns:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(source), repr(sys.path),
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            content, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
        except BaseException as error:
            process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise ResultNotAvailable(job.id, f"no picture of it within {_SECONDS:g} s; download it") from error
            raise
    if process.returncode != 0 or not content:
        raise ResultNotAvailable(job.id, "no picture can be made of it; download it")
    return content


def _keep(path: Path, content: bytes) -> None:
    """Keep a picture beside its result, unless the job was removed meanwhile."""
    try:
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        draft.write_bytes(content)
        draft.rename(path)
    except OSError:
        return
