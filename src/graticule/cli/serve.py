"""``graticule serve``: offer processes over the web."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from graticule.cli.configuration import config_option, effective


@click.command("serve")
@click.argument("plugins", metavar="[FILE.py | MODULE]...", nargs=-1)
@click.option("--home", metavar="DIR", help="Folder of everything the server keeps; default: graticule-home.")
@click.option("--host", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one; default: 8080.")
@click.option("--workers", type=int, metavar="N", help="Jobs that run at the same time; default: 2.")
@click.option("--database", metavar="URL", help="postgresql://… for several servers; default: SQLite in the home.")
@config_option
@click.option("--reload", is_flag=True, help="Start again when a named file changes, for development.")
def command(
    plugins: tuple[str, ...],
    home: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    database: str | None,
    config: Path | None,
    *,
    reload: bool,
) -> int:
    """Serve processes over the web.

    The built-in ones, those of installed plug-ins, and those of the named files and modules.
    """
    options = {
        "--home": ("storage.home", home),
        "--host": ("server.host", host),
        "--port": ("server.port", port),
        "--workers": ("jobs.workers", workers),
        "--database": ("database.url", database),
    }
    settings = effective(config, options).settings
    check_files(plugins)
    if reload:
        from graticule.cli.reload import serve_with_reload, watched_files

        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        return serve_with_reload(arguments, watched_files((*settings.processes.plugins, *plugins), config))
    from graticule.runtime.building import build_parts
    from graticule.web.server import Place, serve

    server = settings.server
    place = Place(
        host=server.host, port=server.port, guarded=bool(settings.security.tokens), log_format=server.log_format
    )
    return serve(lambda: build_parts(settings, plugins), place)


def check_files(plugins: Iterable[str]) -> None:
    """Refuse files that are not there; one that is there and does not load fails only itself, later."""
    places = [Path(plugin.partition(":")[0]).expanduser() for plugin in plugins]
    if missing := [str(place) for place in places if place.suffix == ".py" and not place.is_file()]:
        raise click.UsageError(f"there is no file {' and no file '.join(map(repr, missing))}; check the path")
