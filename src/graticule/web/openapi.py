"""Write the API definition, in OpenAPI 3.0 and 3.1, from the route table and the process descriptions.

Routes say which parameters, bodies, answers and problems they have; descriptions say what a process takes and gives.
Each process gets a typed execution path of its own beside the generic one. A document is written once for a state of
the catalogue, with a mark where the address of the service goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from graticule.errors import (
    GraticuleError,
    HeadTooLarge,
    InvalidRange,
    JobFailed,
    LedgerUnavailable,
    MalformedRequest,
    NoSuchWorkspace,
    RequestFailed,
    RequestStalled,
    StorageUnavailable,
    Unauthenticated,
)
from graticule.ogc.common import HTML, JSON, PROBLEM_JSON
from graticule.ogc.processes import ProcessDescription
from graticule.web.problems import PROBLEMS
from graticule.web.routing import Answer, Parameter, Route
from graticule.web.schemas import COMPONENTS, Schema, component_name, ref
from graticule.web.typed import RAW, Requests, query_parameters, result_content
from graticule.web.vocabulary import schema_3_0, schema_3_1

Version = Literal["3.0", "3.1"]
VERSIONS: dict[Version, str] = {"3.0": "3.0.3", "3.1": "3.1.0"}

BASE = "https://base.invalid/graticule"
"""Stands for the address of the service; whoever sends the document puts the real one in its place."""

EXECUTION = "/processes/{processID}/execution"
_PROCESS_ID = "processID"

_HEADERS: dict[str, tuple[str, Schema]] = {
    "Allow": ("Methods that the resource supports.", {"type": "string"}),
    "Content-Profile": ("Profile that the document follows.", {"type": "string"}),
    "Content-Range": ("Which bytes these are, or how many there are.", {"type": "string"}),
    "ETag": ("Changes with the content; send it in If-None-Match, or (of a job) in If-Match.", {"type": "string"}),
    "Link": ("Links (RFC 8288).", {"type": "string"}),
    "Location": ("Address of what was made, or where to look.", {"type": "string"}),
    "OGC-Output-Values-Count": ("How many values the output has.", {"type": "integer", "minimum": 0}),
    "Preference-Applied": ("Preferences that were honoured (RFC 7240).", {"type": "string"}),
    "Tus-Resumable": ("Version of the protocol tus.", {"type": "string"}),
    "Tus-Version": ("Versions of the protocol tus that are spoken here.", {"type": "string"}),
    "Upload-Expires": ("When an upload is removed.", {"type": "string"}),
    "Upload-Length": ("Bytes of the whole file.", {"type": "integer", "minimum": 0}),
    "Upload-Offset": ("Bytes that are kept so far.", {"type": "integer", "minimum": 0}),
    "Retry-After": ("Seconds after which to try again.", {"type": "integer", "minimum": 0}),
    "WWW-Authenticate": ("How to authenticate.", {"type": "string"}),
}
_ALWAYS = (RequestFailed, MalformedRequest, HeadTooLarge, RequestStalled)
"""Problems that every operation may have."""
_SECURED = (Unauthenticated, NoSuchWorkspace)
"""Problems that every operation may have where tokens are asked for; one may be limited to other workspaces."""
_READING = (LedgerUnavailable, StorageUnavailable)
"""Problems that every operation may have unless its route says that it reads neither."""
_UNCHANGED = Answer(status=304, description="It is still the one that If-None-Match names.", headers=("ETag",))
_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",), 405: ("Allow",), 416: ("Content-Range",), 429: ("Retry-After",), 503: ("Retry-After",)
}  # fmt: skip

_JOB_LINKS = {
    "status": ("get_job", "The status of the job."),
    "results": ("get_results", "What it has produced."),
    "start": ("start_job", "Start it, if it was only created."),
    "change": ("change_job", "Change it, if it was only created."),
    "definition": ("get_definition", "What it was sent with."),
    "inputs": ("get_inputs", "Its inputs."),
    "provenance": ("get_provenance", "Where its results come from."),
    "again": ("repeat_job", "Send it again when it has ended."),
    "priority": ("put_priority", "Change its place in the queue while it waits."),
    "dismiss": ("dismiss_job", "Stop or remove it."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the definition says of the service itself."""

    title: str
    description: str
    version: str
    """Version of the software."""
    secured: bool
    """Whether bearer tokens are asked for."""


def definition(
    routes: Iterable[Route], processes: Iterable[ProcessDescription], service: Service, version: Version
) -> dict[str, Any]:  # fmt: skip
    """
    Return the API definition.

    Parameters
    ----------
    routes : iterable of Route
        All routes; hidden ones are left out.
    processes : iterable of ProcessDescription
        What can be run; each gets a typed execution path.
    service : Service
        Title and security.
    version : {"3.0", "3.1"}
        The edition of OpenAPI.

    Returns
    -------
    dict
        The document; addresses in it begin with `BASE`.

    References
    ----------
    OpenAPI 3.0.3 and 3.1.0; OGC API - Processes Part 1, requirements classes oas30 and oas31.
    """
    return _Writer(service, version).write([route for route in routes if not route.hidden], processes)


@dataclass
class _Writer:
    """Writes one document, collecting the components that it needs on the way."""

    service: Service
    version: Version
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: set[str] = field(default_factory=set)
    answers: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    """Answers that were written, by the identity of what declares them and the process."""
    requests: Requests = field(default_factory=lambda: Requests({}))

    def write(self, routes: Sequence[Route], processes: Iterable[ProcessDescription]) -> dict[str, Any]:
        self.components["schemas"] = {name: self.schema(schema) for name, schema in COMPONENTS.items()}
        paths: dict[str, Any] = {}
        for route in routes:
            self._add(paths, route.path.replace(":path}", "}"), route, self._operation(route))
        executions = [route for route in routes if route.path == EXECUTION]
        for process in processes:
            for route in executions:
                path = route.path.replace(f"{{{_PROCESS_ID}}}", process.id)
                self._add(paths, path, route, self._typed(route, process))
        for name, schema in self.requests.shared.items():
            self.components["schemas"][name] = self.schema(schema)
        document: dict[str, Any] = {
            "openapi": VERSIONS[self.version],
            "info": {
                "title": self.service.title,
                "description": self.service.description,
                "version": self.service.version,
                "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            },
            "servers": [{"url": BASE}],
            "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
            "paths": paths,
            "components": {kind: dict(sorted(named.items())) for kind, named in self.components.items()},
        }
        if self.service.secured:
            scheme = {"type": "http", "scheme": "bearer", "description": "A token that this service knows."}
            document["components"]["securitySchemes"] = {"token": scheme}
            document["security"] = [{"token": []}]
        return document

    def schema(self, schema: Schema) -> Schema:
        """Return a schema in the words of this edition."""
        if schema is RAW:
            return {"type": "string", "format": "binary"} if self.version == "3.0" else {}
        result: Schema = schema_3_0(schema) if self.version == "3.0" else schema_3_1(schema)
        return result

    def _add(self, paths: dict[str, Any], path: str, route: Route, operation: dict[str, Any]) -> None:
        wanted = operation["operationId"]
        if wanted in self.operations:
            operation["operationId"] = f"{wanted}_{len(self.operations)}"
        self.operations.add(operation["operationId"])
        paths.setdefault(path, {})[route.method.lower()] = operation

    def _operation(self, route: Route) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "operationId": _operation_id(route),
            "summary": route.summary,
            "tags": [route.tag],
        }
        parameters = [self._shared(parameter) for parameter in route.parameters]
        if parameters:
            operation["parameters"] = parameters
        if route.body:
            operation["requestBody"] = {"required": route.body_required, "content": self._content(route.body)}
        operation["responses"] = self._responses(route)
        if route.body and (route.path == EXECUTION or (route.method, route.path) == ("POST", "/jobs")):
            operation["callbacks"] = self._callbacks()
        return operation

    def _typed(self, route: Route, process: ProcessDescription) -> dict[str, Any]:
        """Return the operation that runs one process."""
        operation: dict[str, Any] = {
            "operationId": f"{_operation_id(route)}.{process.id}",
            "summary": process.title or process.id,
            "tags": [route.tag],
        }
        if process.description:
            operation["description"] = process.description
        typed = [] if route.body else query_parameters(process)
        names = {_PROCESS_ID, *(one.name for one in typed)}
        parameters = [
            *map(self._parameter, typed),
            *(self._shared(one) for one in route.parameters if one.name not in names),
        ]
        if parameters:
            operation["parameters"] = parameters
        if route.body:
            content: dict[str, Any] = {"schema": self.schema(self.requests.body(process))}
            if process.examples:
                content["examples"] = _examples(process)
            operation["requestBody"] = {"required": True, "content": {JSON: content}}
        operation["responses"] = self._responses(route, process)
        if route.body:
            operation["callbacks"] = self._callbacks()
        return operation

    def _content(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for media_type, name in pairs:
            content[media_type] = {"schema": ref(name)} if name in COMPONENTS else {}
        return content

    # --- parameters ---

    def _shared(self, parameter: Parameter) -> dict[str, Any]:
        """Return a parameter of the route table as a reference; one that differs from its namesake stands in place."""
        return self._share("parameters", f"{parameter.place}.{parameter.name}", self._parameter(parameter))

    def _share(self, kind: str, name: str, written: dict[str, Any]) -> dict[str, Any]:
        """Keep a part under a name and return a reference to it; the part itself where the name means another."""
        plain = component_name(name)
        if self.components.setdefault(kind, {}).setdefault(plain, written) != written:
            return written
        return {"$ref": f"#/components/{kind}/{plain}"}

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = self.schema(parameter.schema)
        written: dict[str, Any] = {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.description,
            "required": parameter.place == "path" or parameter.required,
        }
        if parameter.media_type:
            written["content"] = {parameter.media_type: {"schema": schema}}
            return written
        written["schema"] = schema
        if parameter.style is not None:
            written["style"] = parameter.style
        if schema.get("type") in ("array", "object"):
            written["explode"] = parameter.explode
        if parameter.example is not None:
            written["example"] = parameter.example
        return written

    # --- answers ---

    def _responses(self, route: Route, process: ProcessDescription | None = None) -> dict[str, Any]:
        responses: dict[str, Any] = {}
        for answer in _answers(route):
            responses[str(answer.status)] = self._answer(answer, process, shared=route.path == EXECUTION)
        by_status: dict[int, list[type[GraticuleError]]] = {}
        for error in _problems(route, secured=self.service.secured):
            for status in _statuses(error):
                by_status.setdefault(status, []).append(error)
        for status, errors in by_status.items():
            responses.setdefault(str(status), self._problem(status, errors))
        return dict(sorted(responses.items()))

    def _answer(self, answer: Answer, process: ProcessDescription | None, *, shared: bool) -> dict[str, Any]:
        typed = process if answer.status == 200 else None
        key = (id(answer), typed.id if typed is not None else "")
        if key not in self.answers:
            written = self._written(answer, typed, shared=shared)
            if shared:
                name = "execution" if typed is None else typed.id
                written = self._share("responses", f"{answer.status}.{name}", written)
            self.answers[key] = written
        return self.answers[key]

    def _written(self, answer: Answer, process: ProcessDescription | None, *, shared: bool) -> dict[str, Any]:
        written: dict[str, Any] = {"description": answer.description}
        if answer.headers:
            written["headers"] = {name: self._header(name) for name in answer.headers}
        if process is not None:
            typed = result_content(process)
            written["content"] = {name: {"schema": self.schema(schema)} for name, schema in typed.items()}
        elif answer.content:
            written["content"] = self._content(answer.content)
        if shared and answer.status == 201:
            written["links"] = self._job_links()
        return written

    def _problem(self, status: int, errors: Sequence[type[GraticuleError]]) -> dict[str, Any]:
        """Return a reference to the component that documents how some errors are answered."""
        sentences = dict.fromkeys(_first_line(error) for error in errors)
        written: dict[str, Any] = {
            "description": " ".join(sentences),
            "content": {PROBLEM_JSON: {"schema": ref("exception")}, JSON: {"schema": ref("exception")}, HTML: {}},
        }
        headers = _PROBLEM_HEADERS.get(status, ())
        if headers:
            written["headers"] = {header: self._header(header) for header in headers}
        name = ".".join([str(status), *sorted({error.__name__ for error in errors})])
        return self._share("responses", name, written)

    def _header(self, name: str) -> dict[str, Any]:
        description, schema = _HEADERS.get(name, (name, {"type": "string"}))
        self.components.setdefault("headers", {})[name] = {"description": description, "schema": schema}
        return {"$ref": f"#/components/headers/{name}"}

    def _job_links(self) -> dict[str, Any]:
        links = self.components.setdefault("links", {})
        for name, (operation, description) in _JOB_LINKS.items():
            links[name] = {
                "operationId": operation,
                "description": description,
                "parameters": {"jobID": "$response.body#/jobID"},
            }
        return {name: {"$ref": f"#/components/links/{name}"} for name in _JOB_LINKS}

    def _callbacks(self) -> dict[str, Any]:
        """Return what a subscriber is told; each member of `subscriber` is one address."""
        known = self.components.setdefault("callbacks", {})
        told = (("successUri", "results"), ("inProgressUri", "statusInfo"), ("failedUri", "statusInfo"))
        for member, document in told:
            known[member] = {
                f"{{$request.body#/subscriber/{member}}}": {
                    "post": {
                        "summary": f"What is sent to `{member}`.",
                        "requestBody": {"required": True, "content": {JSON: {"schema": ref(document)}}},
                        "responses": {"200": {"description": "Received."}, "202": {"description": "Received."}},
                    }
                }
            }
        return {member: {"$ref": f"#/components/callbacks/{member}"} for member, _ in told}


def _operation_id(route: Route) -> str:
    return route.operation or getattr(route.handler, "__name__", route.path)


def _answers(route: Route) -> Iterable[Answer]:
    """Return what a route declares, and what follows: who knows an entity tag may ask whether it is still the one."""
    tagged = any("ETag" in answer.headers for answer in route.answers)
    return (*route.answers, _UNCHANGED) if tagged and route.method == "GET" else route.answers


def _problems(route: Route, *, secured: bool) -> Iterable[type[GraticuleError]]:
    """Return the problems that a route declares, and those that follow from what it says of itself."""
    ranged = any(answer.status == 206 for answer in route.answers)
    following = (*(_READING if route.reads else ()), *((InvalidRange,) if ranged else ()))
    return dict.fromkeys((*route.problems, *following, *_ALWAYS, *(_SECURED if secured else ())))


def _statuses(error: type[GraticuleError]) -> tuple[int, ...]:
    """Return how an error is answered; a job can have failed because its inputs were wrong."""
    status = PROBLEMS[error].status
    return (status, 400) if error is JobFailed else (status,)


def _first_line(error: type[GraticuleError]) -> str:
    return (error.__doc__ or error.__name__).strip().split("\n")[0]


def _examples(process: ProcessDescription) -> dict[str, Any]:
    """Return the ready requests of a process."""
    examples = {}
    for number, example in enumerate(process.examples or (), start=1):
        value: dict[str, Any] = {"inputs": example.inputs}
        if example.outputs is not None:
            value["outputs"] = example.outputs
        examples[f"example-{number}"] = {"summary": example.title, "value": value}
    return examples
