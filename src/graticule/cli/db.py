"""``graticule db``: look at the database of jobs, and bring it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from graticule.cli.configuration import config_option, effective
from graticule.cli.exits import Exit
from graticule.cli.service import json_option
from graticule.cli.show import print_json
from graticule.settings import Settings

_home = click.option("--home", metavar="DIR", help="Folder of the server; default: graticule-home.")
_database = click.option("--database", metavar="URL", help="postgresql://… instead of SQLite in the home.")


@click.group("db")
def command() -> None:
    """Look at the database of jobs, or bring it up to date.

    A server does the latter itself when it starts.
    """


@command.command("check")
@_home
@_database
@config_option
@json_option
def check(home: str | None, database: str | None, config: Path | None, *, as_json: bool) -> int:
    """Tell which revision the database has, and whether this version works with it.

    The exit code is 8 when it has to be upgraded, or was made by a newer version.
    """
    from graticule.db.database import postgresql_revision, sqlite_revision
    from graticule.db.schema import REVISION
    from graticule.runtime.home import database_path

    settings = _settings(home, database, config)
    if settings.database.url.startswith("postgresql"):
        found = postgresql_revision(settings.database.url)
    else:
        found = sqlite_revision(database_path(settings))
    if as_json:
        print_json({"revision": found, "needed": REVISION})
    elif found is None:
        click.echo("there is no database yet; the first start of a server makes it")
    elif found == REVISION:
        click.echo(f"revision {found}, as this version needs it")
    elif found < REVISION:
        click.echo(f"revision {found}; this version needs {REVISION}: run graticule db upgrade, or start the server")
    else:
        click.echo(f"revision {found} of a newer version; this one knows {REVISION}")
    return Exit.DONE if found in (None, REVISION) else Exit.MISCONFIGURED


@command.command("upgrade")
@_home
@_database
@config_option
@json_option
def upgrade(home: str | None, database: str | None, config: Path | None, *, as_json: bool) -> None:
    """Make the database, or bring it to the revision of this version; a copy of the old one is kept."""
    from graticule.db.database import prepare_postgresql, prepare_sqlite
    from graticule.db.schema import REVISION
    from graticule.runtime.home import HomeLock, database_path

    settings = _settings(home, database, config)
    if settings.database.url.startswith("postgresql"):
        found = prepare_postgresql(settings.database.url)
    else:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock = HomeLock.take(settings.home)  # its server would not know what happens below it
        try:
            found = prepare_sqlite(database_path(settings))
        finally:
            lock.release()
    if as_json:
        print_json({"before": found, "revision": REVISION})
    else:
        click.echo(f"revision {REVISION}; before: {found or 'none'}")


def _settings(home: str | None, database: str | None, config: Path | None) -> Settings:
    options: dict[str, tuple[str, Any]] = {"--home": ("storage.home", home), "--database": ("database.url", database)}
    return effective(config, options).settings
