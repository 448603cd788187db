"""A small service of the standard, in memory, that the client talks to."""

import json
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

RESULTS = '<https://www.opengis.net/def/profile/OGC/0/ogc-results>; rel="profile"'
NO_SUCH_JOB = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/no-such-job"
PICTURE = b"\x89PNG not really"


class SmallService:
    """Processes `greet` (answers at once) and `draw` (a job that needs three looks, then gives a picture)."""

    def __init__(self):
        self.polls = 0
        self.seen: list[Request] = []
        self.bodies: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.started = False
        self.job_status = "successful"
        self.dispositions: dict[str, str] = {}
        """``Content-Disposition`` by output."""
        self.app = Starlette(
            routes=[
                Route("/processes", self.processes),
                Route("/processes/{id}", self.process),
                Route("/processes/{id}/execution", self.execution, methods=["POST"]),
                Route("/jobs", self.jobs),
                Route("/jobs/{id}", self.job, methods=["GET"]),
                Route("/jobs/{id}", self.dismiss, methods=["DELETE"]),
                Route("/jobs/{id}/results", self.results),
                Route("/jobs/{id}/results/{output}", self.result),
                Route("/jobs/{id}/log", self.log),
                Route("/files", self.upload, methods=["POST"]),
                Route("/east/ogc-api/processes/{id}", self.process),
                Route("/east/files", self.upload, methods=["POST"]),
            ],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, app):
        self.started = True
        yield
        self.started = False

    async def processes(self, request):
        self.seen.append(request)
        number = int(request.query_params.get("offset", 0))
        links = [{"href": f"/processes?offset={number + 1}", "rel": "next"}] if number < 2 else []
        return JSONResponse({"processes": [{"id": f"p{number}", "version": "1"}], "links": links})

    async def process(self, request):
        self.seen.append(request)
        if request.path_params["id"] == "text":
            return PlainTextResponse("hello")
        return JSONResponse({"id": request.path_params["id"], "version": "1.2.0", "title": "Draw"})

    async def execution(self, request):
        self.seen.append(request)
        self.bodies.append(json.loads(await request.body()))
        if request.path_params["id"] == "greet":
            name = self.bodies[-1]["inputs"].get("name")
            if not isinstance(name, str):
                return JSONResponse(
                    {"type": "about:blank", "title": "Invalid inputs", "status": 400, "detail": "1 fault",
                     "errors": [{"pointer": "/inputs/name", "detail": "must be a text"}]},
                    400,
                    media_type="application/problem+json",
                )  # fmt: skip
            return JSONResponse({"greeting": f"Hello {name}!"}, headers={"Link": RESULTS})
        return JSONResponse(self.status("accepted"), 201, {"Location": "http://localhost/jobs/j1"})

    def status(self, status):
        links = [{"href": "/jobs/j1/log", "rel": "log", "title": "Tool log of the job"}]
        return {"id": "j1", "jobID": "j1", "type": "process", "processID": "draw", "status": status, "links": links}

    async def jobs(self, request):
        self.seen.append(request)
        return JSONResponse({"jobs": [self.status("running")], "links": []})

    async def job(self, request):
        if request.path_params["id"] != "j1":
            return JSONResponse(
                {"type": NO_SUCH_JOB, "title": "No such job", "status": 404, "detail": "no job 'x'"}, 404
            )
        self.polls += 1
        if self.polls < 3:
            return JSONResponse(self.status("running") | {"progress": 40 * self.polls}, headers={"Retry-After": "0"})
        return JSONResponse(self.status(self.job_status))

    async def dismiss(self, request):
        return JSONResponse(self.status("dismissed"))

    async def results(self, request):
        self.seen.append(request)
        link = {"href": "http://localhost/jobs/j1/results/picture", "type": "image/png"}
        document = {
            "picture": link,
            "small": {"value": "aGVsbG8=", "encoding": "base64", "mediaType": "application/octet-stream"},
            "count": 3,
        }
        return JSONResponse(document, headers={"Link": RESULTS})

    async def result(self, request):
        self.seen.append(request)
        disposition = self.dispositions.get(request.path_params["output"])
        headers = {} if disposition is None else {"Content-Disposition": disposition}
        return Response(PICTURE, media_type="image/png", headers=headers)

    async def log(self, request):
        return PlainTextResponse("drawing\n")

    async def upload(self, request):
        self.seen.append(request)
        self.files[request.query_params["name"]] = await request.body()
        address = f"http://localhost{request.url.path}/f1/{request.query_params['name']}"
        return JSONResponse({"href": address}, 201, {"Location": address})


@pytest.fixture
def service():
    return SmallService()
