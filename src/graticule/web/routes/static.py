"""Scripts, styles and pictures of the pages."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from graticule.errors import NoSuchResource
from graticule.web.pages import assets
from graticule.web.requests import header
from graticule.web.responses import matches
from graticule.web.routing import Routes

routes = Routes("Pages")

_FOR_GOOD = "public, max-age=31536000, immutable"


@routes.get("/static/{name:path}", hidden=True)
async def get_asset(request: Request) -> Response:
    """Return an asset; under an address that carries its version it may be kept for good."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise NoSuchResource(request.url.path)
    tag = f'"{asset.version}"'
    kept = _FOR_GOOD if request.query_params.get("v") == asset.version else "no-cache"
    headers = {"etag": tag, "cache-control": kept, "x-content-type-options": "nosniff"}
    if matches(header(request, "if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)
