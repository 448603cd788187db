"""Resources, one file each; ``ROUTES`` is all of them."""

from __future__ import annotations

from graticule.web.dialects import pygeoapi
from graticule.web.routes import (
    admin,
    api,
    events,
    execution,
    execution_kvp,
    files,
    forms,
    job_management,
    jobs,
    landing,
    logs,
    notifications,
    operations,
    previews,
    processes,
    provenance,
    static,
)  # fmt: skip
from graticule.web.routing import Route

ROUTES: tuple[Route, ...] = (
    *landing.routes.routes,
    *api.routes.routes,
    *processes.routes.routes,
    *execution.routes.routes,
    *jobs.routes.routes,
    *logs.routes.routes,
    *events.routes.routes,
    *notifications.routes.routes,
    *job_management.routes.routes,
    *provenance.routes.routes,
    *execution_kvp.routes.routes,
    *files.routes.routes,
    *operations.routes.routes,
    *admin.routes.routes,
    *pygeoapi.routes.routes,
    *forms.routes.routes,
    *previews.routes.routes,
    *static.routes.routes,
)
