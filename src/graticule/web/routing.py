"""Declare routes, and find the one that a request means.

A declaration says everything that a client may know of a route: its parameters, body, answers and problems. Requests
are dispatched by it, and the OpenAPI documents are written from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import GraticuleError, MethodNotAllowed, NoSuchResource

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter, header or path parameter."""

    name: str
    description: str
    schema: dict[str, Any]
    place: str = "query"
    """``query``, ``header`` or ``path``."""
    explode: bool = True
    style: str | None = None
    example: Any = None
    required: bool = False
    """Path parameters always are."""
    media_type: str = ""
    """Of one that is sent as content of that type, e.g. URL-encoded JSON, rather than in a style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One way in which a route answers."""

    status: int
    description: str
    content: tuple[tuple[str, str], ...] = ()
    """Pairs of media type and name of a schema in the definition (``""``: any content of that type)."""
    headers: tuple[str, ...] = ()
    """Names of headers that the definition documents."""


RANGE = Answer(
    status=206, description="A range of its bytes.", content=(("*/*", ""),), headers=("Content-Range", "ETag")
)
"""Of content that a client may have read half of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one resource."""

    method: str
    path: str
    """Template below the workspace, e.g. ``/jobs/{jobID}``."""
    handler: Handler
    summary: str
    tag: str
    parameters: tuple[Parameter, ...] = ()
    body: tuple[tuple[str, str], ...] = ()
    """Pairs of media type and name of a schema in the definition."""
    body_required: bool = True
    answers: tuple[Answer, ...] = ()
    problems: tuple[type[GraticuleError], ...] = ()
    operation: str = ""
    """``operationId``; the handler's name if empty."""
    head: bool = True
    """False for a GET that does work, which a HEAD must not."""
    reads: bool = True
    """False: it looks into neither the ledger nor the storage, and is answered while they fail."""
    hidden: bool = False
    """True: left out of the definition (old dialects, static files)."""

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/")) if self.path != "/" else ()


class Routes:
    """Collects the routes of one file.

    Parameters
    ----------
    tag : str
        Heading under which the definition lists them.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.routes: list[Route] = []

    def add(self, method: str, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a route; the handler's docstring is its summary."""

        def declare(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").strip().split("\n")[0]
            self.routes.append(
                Route(method=method, path=path, handler=handler, summary=summary, tag=self.tag, **declared)
            )
            return handler

        return declare

    def get(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self.add("GET", path, **declared)

    def post(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self.add("POST", path, **declared)

    def put(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self.add("PUT", path, **declared)

    def patch(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self.add("PATCH", path, **declared)

    def delete(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        return self.add("DELETE", path, **declared)


@dataclass
class _Node:
    """One segment of the tree of paths."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    rest: dict[str, Route] | None = None
    """Routes of a last segment ``{name:path}``, which takes all that remains."""
    names: tuple[str, ...] = ()
    methods: dict[str, Route] = field(default_factory=dict)


class RouteTable:
    """Finds the route of a request by its path, segment by segment.

    Parameters
    ----------
    routes : iterable of Route
        All routes; a fixed segment goes before a variable one.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: list[Route] = list(routes)
        self._root = _Node()
        for route in self.routes:
            self._insert(route)

    def _insert(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.segments:
            if segment.startswith("{"):
                names.append(segment.strip("{}").removesuffix(":path"))
                if segment.endswith(":path}"):
                    node.rest = {**(node.rest or {}), route.method: route}
                    return
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.names = tuple(names)
        if route.method in node.methods:
            raise ValueError(f"{route.method} {route.path} is declared twice")
        node.methods[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and its path parameters.

        Raises
        ------
        NoSuchResource
            If nothing is served at the path.
        MethodNotAllowed
            If something is, but not with this method.
        """
        methods, values = self._methods(path)
        route = methods.get(method)
        if route is None and method == "HEAD" and (read := methods.get("GET")) is not None and read.head:
            route = read
        if route is None:
            raise MethodNotAllowed(method, self.allowed(path))
        return route, values

    def allowed(self, path: str) -> Sequence[str]:
        """Return the methods that a path supports."""
        methods = self._methods(path)[0]
        head = {"HEAD"} if "GET" in methods and methods["GET"].head else set()
        return sorted({*methods, "OPTIONS", *head})

    def _methods(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        node, values = self._root, []
        segments = path.strip("/").split("/") if path.strip("/") else []
        for index, segment in enumerate(segments):
            following = node.fixed.get(segment)
            if following is None and node.variable is not None:
                values.append(unquote(segment))
                following = node.variable
            if following is None:
                if node.rest is not None:
                    name = next(iter(node.rest.values())).segments[-1].strip("{}").removesuffix(":path")
                    return node.rest, {name: unquote("/".join(segments[index:]))}
                raise NoSuchResource(path)
            node = following
        if not node.methods:
            raise NoSuchResource(path)
        return node.methods, dict(zip(node.names, values, strict=True))
