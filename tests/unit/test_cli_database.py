"""The commands that look after the database."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from graticule.cli import main
from graticule.cli.exits import Exit
from graticule.db.schema import REVISION
from graticule.db.sqlite import connect
from tests.postgres import Postgres


def test_a_home_is_checked_made_and_found_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]

    assert main(["db", "check", *home]) == Exit.DONE
    assert "no database yet" in capsys.readouterr().out
    assert main(["db", "upgrade", *home]) in (None, Exit.DONE)
    assert main(["db", "check", *home, "--json"]) == Exit.DONE

    assert f'"revision": "{REVISION}"' in capsys.readouterr().out


def test_a_database_of_a_newer_version_is_told_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home = ["--home", str(tmp_path)]
    main(["db", "upgrade", *home])
    with closing(connect(tmp_path / "graticule.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num='9999'")

    assert main(["db", "check", *home]) == Exit.MISCONFIGURED
    assert main(["db", "upgrade", *home]) == Exit.MISCONFIGURED
    assert "newer Graticule" in capsys.readouterr().err


def damage(home: Path, place: int) -> None:
    """Make a database and overwrite its first bytes, or all but its first page."""
    main(["db", "upgrade", "--home", str(home)])
    with (home / "graticule.db").open("r+b") as damaged:
        size = damaged.seek(0, 2)
        damaged.seek(place)
        damaged.write(b"\xa5" * (size - place if place else 5000))


@pytest.mark.parametrize("place", [0, 4096])
def test_a_server_with_a_damaged_database_says_what_to_do(place: int, tmp_path: Path) -> None:
    damage(tmp_path, place)
    call = [sys.executable, "-m", "graticule", "serve", "--port", "0", "--home", str(tmp_path)]

    ended = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == Exit.MISCONFIGURED
    assert "restore the backup" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("place", [0, 4096])
@pytest.mark.parametrize("call", ["db check", "db upgrade", "backup COPY"])
def test_a_damaged_database_is_told_in_a_sentence(
    call: str, place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home, copy = tmp_path / "home", tmp_path / "copy"
    damage(home, place)
    capsys.readouterr()

    assert main([*call.replace("COPY", str(copy)).split(), "--home", str(home)]) == Exit.MISCONFIGURED

    told = capsys.readouterr().err
    assert "restore the backup" in told
    assert told.count("\n") == 1
    assert not copy.exists() or not any(copy.iterdir())  # the same command can be given again


def test_a_backup_holds_the_database_the_key_and_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home, copy = tmp_path / "home", tmp_path / "copy"
    main(["db", "upgrade", "--home", str(home)])
    (home / "secret.key").write_bytes(b"key")
    (home / "storage" / "default").mkdir(parents=True)
    (home / "storage" / "default" / "result").write_text("42")

    capsys.readouterr()
    main(["backup", str(copy), "--home", str(home)])

    assert capsys.readouterr().err == ""
    assert (copy / "secret.key").read_bytes() == b"key"
    assert (copy / "storage" / "default" / "result").read_text() == "42"
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    assert main(["db", "check", "--home", str(home)]) == Exit.DONE
    assert main(["backup", str(copy), "--home", str(home)]) == Exit.USAGE
    assert "not empty" in capsys.readouterr().err


def test_a_backup_leaves_out_what_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, copy, copyfile = tmp_path / "home", tmp_path / "copy", shutil.copyfile
    main(["db", "upgrade", "--home", str(home)])
    for place in ("kept", "jobs/1", "jobs/2"):
        (home / "storage" / place).mkdir(parents=True)
        (home / "storage" / place / "result").write_text("42")

    def remove_before(source: Any, target: Any, **how: Any) -> Any:
        """Remove all jobs when the first file of one is about to be copied."""
        if "jobs" in os.fspath(source):
            shutil.rmtree(home / "storage" / "jobs", ignore_errors=True)
        return copyfile(source, target, **how)

    monkeypatch.setattr(shutil, "copyfile", remove_before)
    ended = main(["backup", str(copy), "--home", str(home)])

    assert ended == Exit.DONE
    assert (copy / "storage" / "kept" / "result").read_text() == "42"
    assert not list((copy / "storage").glob("jobs/*/result"))


def test_a_backup_that_cannot_be_whole_says_why_and_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home, copy = tmp_path / "home", tmp_path / "copy"
    main(["db", "upgrade", "--home", str(home)])
    (home / "storage").mkdir()
    (home / "storage" / "large").write_bytes(bytes(8 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()

    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, before[1]))
    try:
        ended = main(["backup", str(copy), "--home", str(home)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    told = capsys.readouterr().err
    assert ended == Exit.MISCONFIGURED
    assert "nothing of it is kept" in told
    assert "File too large" in told
    assert told.count("\n") == 1
    assert not any(copy.iterdir())
    assert main(["backup", str(copy), "--home", str(home)]) == Exit.DONE


@pytest.mark.parametrize("place", ["storage/copy", "storage", "scratch/copy", "link/copy"])
def test_a_backup_into_what_it_copies_is_refused(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home = tmp_path / "home"
    main(["db", "upgrade", "--home", str(home)])
    (home / "storage").mkdir()
    (home / "link").symlink_to(home / "storage")
    capsys.readouterr()

    ended = main(["backup", str(home / place), "--home", str(home)])

    told = capsys.readouterr().err
    assert ended == Exit.USAGE
    assert "name a folder elsewhere" in told
    assert not any((home / "storage").iterdir())
    assert not (home / "scratch").exists()


@pytest.mark.parametrize(("number", "left"), [("SIGTERM", []), ("SIGINT", []), ("SIGKILL", ["unfinished"])])
def test_a_backup_that_is_stopped_leaves_none_that_looks_whole(tmp_path: Path, number: str, left: list[str]) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    main(["db", "upgrade", "--home", str(home)])
    (home / "storage").mkdir()
    (home / "storage" / "large").write_text("42")
    # What a shell starts in the background ignores Ctrl-C, and so do its children.
    heeding = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    slow = f"{heeding}import shutil, time\nshutil.copyfile = lambda *_, **__: time.sleep(60)\n"
    call = f"{slow}from graticule.cli import main\nraise SystemExit(main())"

    with subprocess.Popen([sys.executable, "-c", call, "backup", str(copy), "--home", str(home)]) as backup:
        deadline = time.monotonic() + 20
        while not (copy / "unfinished" / "storage").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        backup.send_signal(getattr(signal, number))
        ended = backup.wait(20)

    assert [path.name for path in copy.iterdir()] == left
    assert ended == (-signal.SIGKILL if number == "SIGKILL" else Exit.INTERRUPTED)


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://ada:s%26cret@db.example:5433/jobs?sslmode=require&application_name=a", "s&cret"),
        ("postgresql://ada@db.example:5433/jobs?sslmode=require&application_name=a&password=s%26cret", "s&cret"),
        ("postgresql://ada@db.example:5433/jobs?sslmode=require&application_name=a", "of the environment"),
    ],
)
def test_a_backup_tells_no_other_user_the_password_of_the_database(
    url: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "bin" / "pg_dump"
    stub.parent.mkdir()
    stub.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/call\nprintf %s "$PGPASSWORD" > {tmp_path}/password\n'
    )
    stub.chmod(0o700)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=os.pathsep)
    monkeypatch.setenv("PGPASSWORD", "of the environment")

    assert main(["backup", str(tmp_path / "copy"), "--home", str(tmp_path), "--database", url]) == Exit.DONE

    call = (tmp_path / "call").read_text()
    assert "cret" not in call
    assert (tmp_path / "password").read_text() == password
    address = next(line for line in call.splitlines() if line.startswith("--dbname=")).removeprefix("--dbname=")
    assert set(address.split()) == {
        "user=ada", "host=db.example", "port=5433", "dbname=jobs", "sslmode=require", "application_name=a"
    }  # fmt: skip


def test_a_backup_says_what_it_does_not_hold(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    database = ["--database", postgres.new_database()]
    main(["db", "upgrade", *database])
    shutil.rmtree("graticule-home", ignore_errors=True)
    capsys.readouterr()

    assert main(["backup", "copy", *database, "--json"]) == Exit.DONE

    told = capsys.readouterr()
    assert json.loads(told.out)["copied"] == ["copy/database.dump"]
    assert "the key of secrets is not copied" in told.err
    assert "results, logs and uploads are not copied" in told.err
    assert told.err.count("--home") == 2

    monkeypatch.setenv("GRATICULE_SECURITY__SECRET_KEY", "k" * 32)
    main(["backup", "second", *database, "--no-results"])
    assert "security.secret_key, which is not copied" in capsys.readouterr().err
