"""Options that every command has which asks a running service, and the client that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from graticule.client import Client

DEFAULT_URL = "http://127.0.0.1:8080"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a running service is, and as whom it is asked."""

    url: str
    token: str | None
    workspace: str | None

    def client(self) -> Client:
        """Return a client of it."""
        from graticule.client import Client

        return Client(self.url, token=self.token, workspace=self.workspace)


def service_options(function: Function) -> Function:
    """Give a command the options ``--url``, ``--token`` and ``--workspace`` as one parameter `service`."""

    def with_service(*args: Any, url: str, token: str | None, workspace: str | None, **kwargs: Any) -> Any:
        return function(*args, service=Service(url=url, token=token, workspace=workspace), **kwargs)

    with_service.__doc__ = function.__doc__
    with_service.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    wrapped: Any = with_service
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


_OPTIONS = (
    click.option(
        "--url", envvar="GRATICULE_URL", default=DEFAULT_URL, show_default=True, help="Address of the service."
    ),
    click.option("--token", envvar="GRATICULE_TOKEN", help="Bearer token, if the service wants one."),
    click.option("--workspace", envvar="GRATICULE_WORKSPACE", help="Workspace; default: the service's default one."),
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts instead of tables.")
