"""Resources, one file each; ``ROUTES`` is all of them."""

from __future__ import annotations

from graticule.web.dialects import pygeoapi
from graticule.web.routes import (
    api,
    execution,
    execution_kvp,
    files,
    forms,
    jobs,
    landing,
    notifications,
    previews,
    processes,
    static,
)  # fmt: skip
from graticule.web.routing import Route

ROUTES: tuple[Route, ...] = (
    *landing.routes.routes,
    *api.routes.routes,
    *processes.routes.routes,
    *execution.routes.routes,
    *jobs.routes.routes,
    *notifications.routes.routes,
    *execution_kvp.routes.routes,
    *files.routes.routes,
    *pygeoapi.routes.routes,
    *forms.routes.routes,
    *previews.routes.routes,
    *static.routes.routes,
)
