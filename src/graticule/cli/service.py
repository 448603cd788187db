"""Options that every command has which asks a running service, and the client that they make."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from graticule.errors import Fault, InvalidInputs

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


def _made(context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    """Make the folder for files before anything runs for them; it goes again if none was written."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{str(folder)!r} cannot be a folder for files ({error.strerror}); choose another one"
        raise InvalidInputs([Fault("/output-dir", reason)]) from error
    if new:
        context.call_on_close(lambda: _remove_empty(folder))
    return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something
        folder.rmdir()


output_dir_option = click.option(
    "-d", "--output-dir", type=click.Path(path_type=Path), default=".", callback=_made, help="Folder for files."
)
