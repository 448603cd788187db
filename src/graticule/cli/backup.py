"""``graticule backup``: copy what a server keeps, while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from graticule.cli.configuration import config_option, effective
from graticule.cli.service import json_option
from graticule.cli.show import print_json, print_note
from graticule.errors import InvalidSetting
from graticule.settings import Settings

_REMEDY = "if a server has run, give its home by --home, or its settings by --config"
_UNFINISHED = "unfinished"
_DATABASES = ("graticule.db", "database.dump")


@click.command("backup")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--home", metavar="DIR", help="Folder of the server; default: graticule-home.")
@click.option("--database", metavar="URL", help="postgresql://… instead of SQLite in the home.")
@click.option("--results/--no-results", default=True, help="Whether results, logs and uploads are copied too.")
@config_option
@json_option
def command(
    folder: Path, home: str | None, database: str | None, config: Path | None, *, results: bool, as_json: bool
) -> None:
    """Copy the database, the key of its secrets, and the results into FOLDER, which must be new or empty.

    The server may run meanwhile. The database is copied first: whatever job is successful in it has its results, since
    those are stored before. To restore, stop the server and put the files back into its home.
    """
    options = {"--home": ("storage.home", home), "--database": ("database.url", database)}
    settings = effective(config, options).settings
    _refuse_own_places(settings, folder)
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{str(folder)!r} is not empty; name a new folder")
    with _all_or_nothing(folder) as unfinished:
        copied, missing = _copy(settings, unfinished, results=results)
    copied = [folder / path.name for path in copied]
    for note in missing:
        print_note(f"graticule: {note}")
    if as_json:
        print_json({"copied": [str(path) for path in copied], "missing": missing})
    else:
        click.echo("\n".join(str(path) for path in copied))


def _refuse_own_places(settings: Settings, folder: Path) -> None:
    """Refuse a folder that would be copied into itself, or that the next start of the server empties."""
    from graticule.runtime.home import storage_folder

    for place in (storage_folder(settings), settings.home / "scratch"):
        if folder.resolve().is_relative_to(place.resolve()):
            raise click.UsageError(f"{str(folder)!r} lies in {str(place)!r}, the server's own; name a folder elsewhere")


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a folder to fill in another one, which gets all that is in it at the end; else nothing of it stays.

    Whoever is killed meanwhile leaves the one folder in the other, which nobody takes for a whole backup.
    """
    from graticule.data.removal import remove_tree

    unfinished, made = folder / _UNFINISHED, []
    before = signal.signal(signal.SIGTERM, _end)
    try:
        unfinished.mkdir(parents=True)
        made.append(unfinished)
        yield unfinished
        # Without a database it is no backup, so that comes last.
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name in _DATABASES):
            made.append(folder / path.name)
            path.rename(made[-1])
        unfinished.rmdir()
    except BaseException as error:
        for path in made:
            remove_tree(path)
        if isinstance(error, OSError):
            raise InvalidSetting(
                "storage.home", f"the backup was broken off, and nothing of it is kept: {error}"
            ) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Have SIGTERM do what Ctrl-C does."""
    raise KeyboardInterrupt


def _copy(settings: Settings, folder: Path, *, results: bool) -> tuple[list[Path], list[str]]:
    """Copy what a server keeps; return the copies, and a sentence for each part of which there is none."""
    from graticule.runtime.home import storage_folder

    copied = [_copy_database(settings, folder)]
    missing = []
    key = settings.home / "secret.key"
    if settings.security.secret_key:
        missing.append("the key of secrets is security.secret_key, which is not copied; keep it apart")
    elif key.is_file():
        copied.append(Path(shutil.copy2(key, folder / "secret.key")))
    else:
        missing.append(f"the key of secrets is not copied: there is no {key}; {_REMEDY}")
    storage = storage_folder(settings)
    if not results:
        missing.append("results, logs and uploads are not copied")
    elif settings.storage.url:
        missing.append("results and uploads lie in storage.url, which is not copied; copy the bucket by its own means")
    elif storage.is_dir():
        _copy_folder(storage, folder / "storage")
        copied.append(folder / "storage")
    else:
        missing.append(f"results, logs and uploads are not copied: there is no {storage}; {_REMEDY}")
    return copied, missing


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder whose files may be removed meanwhile; those are left out."""
    try:
        shutil.copytree(source, target, ignore_dangling_symlinks=True)
    except shutil.Error as error:
        for path, _, reason in error.args[0]:
            if os.path.lexists(path):
                raise OSError(reason) from error


def _copy_database(settings: Settings, folder: Path) -> Path:
    from graticule.db.database import usable
    from graticule.db.sqlite import connect
    from graticule.runtime.home import database_path

    if settings.database.url.startswith("postgresql"):
        target = folder / "database.dump"
        if shutil.which("pg_dump") is None:
            raise InvalidSetting("database.url", "pg_dump is needed to copy PostgreSQL; install its client programs")
        address, environment = _without_password(settings.database.url)
        call = ["pg_dump", "--format=custom", f"--file={target}", f"--dbname={address}"]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InvalidSetting("database.url", f"pg_dump failed: {done.stderr.strip()}")
        return target
    source, target = database_path(settings), folder / "graticule.db"
    if not source.is_file():
        raise InvalidSetting("storage.home", f"there is no database {source}; name the home of the server by --home")
    with usable(source), closing(connect(source)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    return target


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """Return where a database is, and the environment with its password: every user of a machine sees command lines."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise InvalidSetting("database.url", f"this is no address of a database: {error}") from None
    password = parts.pop("password", None)
    environment = dict(os.environ) if password is None else {**os.environ, "PGPASSWORD": str(password)}
    return make_conninfo("", **parts), environment
