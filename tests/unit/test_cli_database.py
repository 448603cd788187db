"""The commands that look after the database."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from graticule.cli import main
from graticule.cli.exits import Exit
from graticule.db.schema import REVISION
from graticule.db.sqlite import connect


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


def test_a_backup_holds_the_database_the_key_and_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    home, copy = tmp_path / "home", tmp_path / "copy"
    main(["db", "upgrade", "--home", str(home)])
    (home / "secret.key").write_bytes(b"key")
    (home / "storage" / "default").mkdir(parents=True)
    (home / "storage" / "default" / "result").write_text("42")

    main(["backup", str(copy), "--home", str(home)])

    assert (copy / "secret.key").read_bytes() == b"key"
    assert (copy / "storage" / "default" / "result").read_text() == "42"
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    assert main(["db", "check", "--home", str(home)]) == Exit.DONE
    assert main(["backup", str(copy), "--home", str(home)]) == Exit.USAGE
    assert "not empty" in capsys.readouterr().err
