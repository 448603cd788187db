"""Folders are removed whatever was done to them, by whoever is not root."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from graticule.data.removal import remove_tree

UNPRIVILEGED = 65534
"""Number of a user whom nothing belongs to."""
DEPTH = 2500


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that a user without rights may reach and write to, and remove it whatever it has become."""
    place = Path("/tmp", f"removal-{os.getpid()}") if os.geteuid() == 0 else tmp_path / "place"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, UNPRIVILEGED, UNPRIVILEGED)
    yield place
    subprocess.run(["chmod", "-R", "u+rwx", place], check=False)
    subprocess.run(["rm", "-rf", place], check=True)


def unprivileged(place: Path, making: str) -> str:
    """Have a user without rights make a tree in a folder and remove it; return what was logged."""
    code = f"""
    import os, sys
    from pathlib import Path
    sys.path[:] = {sys.path!r}
    from graticule.data.removal import remove_tree
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*[{UNPRIVILEGED}] * 3)
        os.setresuid(*[{UNPRIVILEGED}] * 3)
    tree = Path({str(place)!r}, "tree")
    tree.mkdir()
    """
    script = textwrap.dedent(code) + textwrap.dedent(making) + "\nremove_tree(tree)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("mode", ["0o500", "0o300", "0o000"])
def test_folders_go_whatever_rights_were_taken_from_them(place: Path, mode: str):
    (place / "kept").mkdir(mode=0o700)
    (place / "kept" / "file").write_text("42")
    making = f"""
    for folder in (tree / "a" / "b", tree / "c"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("42")
        (folder / "link").symlink_to({str(place / "kept")!r})
    for folder in (tree / "a" / "b", tree / "a", tree / "c", tree):
        folder.chmod({mode})
    """

    told = unprivileged(place, making)

    assert told == ""
    assert [path.name for path in place.iterdir()] == ["kept"]
    assert (place / "kept" / "file").read_text() == "42"


def test_what_stays_is_told(place: Path):
    told = unprivileged(place, "tree.parent.chmod(0o500)")

    assert (place / "tree").exists()
    assert f"{place / 'tree'} cannot be removed; remove it by hand" in told
    assert "Permission denied" in told


def test_folders_go_however_deep_they_lie(place: Path):
    making = f"""
    before = os.getcwd()
    os.chdir(tree)
    for _ in range({DEPTH}):
        os.mkdir("deeper")
        os.chdir("deeper")
    Path("file").write_text("42")
    os.chdir(before)
    """

    told = unprivileged(place, making)

    assert told == ""
    assert not any(place.iterdir())


def test_a_link_goes_without_what_it_leads_to(tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")

    for name in ("link", "nothing"):
        remove_tree(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
