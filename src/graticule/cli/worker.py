"""``graticule worker``: run the jobs of servers that share a database."""

from __future__ import annotations

from pathlib import Path

import click

from graticule.cli.configuration import config_option, effective
from graticule.cli.serve import check_files


@click.command("worker")
@click.argument("plugins", metavar="[FILE.py | MODULE]...", nargs=-1)
@click.option("--home", metavar="DIR", help="Folder of its own for scratch files; default: graticule-home.")
@click.option("--host", help="Address at which health and metrics answer; default: 127.0.0.1.")
@click.option("--port", type=int, help="Port for them; 0 takes a free one; default: none, they are not offered.")
@click.option("--workers", type=int, metavar="N", help="Jobs that run at the same time; default: 2.")
@click.option("--database", metavar="URL", help="postgresql://… of the servers whose jobs it runs.")
@config_option
def command(
    plugins: tuple[str, ...],
    home: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    database: str | None,
    config: Path | None,
) -> int:
    """Run jobs for servers that share a database.

    It runs the jobs of those processes that it has itself: the built-in ones, those of installed plug-ins, and those of
    the named files and modules. Give it the same settings as the servers, and a storage that all of them reach.
    """
    options = {
        "--home": ("storage.home", home),
        "--host": ("worker.host", host),
        "--port": ("worker.port", port),
        "--workers": ("jobs.workers", workers),
        "--database": ("database.url", database),
    }
    settings = effective(config, options).settings
    check_files(plugins)
    from graticule.runtime.building import build_parts
    from graticule.runtime.worker import Watched, unwatched, work

    watched: Watched = unwatched
    if settings.worker.port is not None:
        from graticule.web.server import watched_at  # whoever is not asked how it is needs no web server

        watched = watched_at(settings.worker.host, settings.worker.port)
    return work(lambda: build_parts(settings, plugins, kind="worker"), watched, settings.server.log_format)
