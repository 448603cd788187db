"""Control groups, on a tree of files that looks like the kernel's: which is taken, and what is written where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graticule.jobs.cgroups import Group, Groups, find_groups


@pytest.fixture
def own(tmp_path):
    """The file that says in which groups this process is."""

    def write(*lines: str) -> Path:
        (tmp_path / "own").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / "own"

    return write


def place_of(root: Path, inside: str, *, delegated: bool = True, **files: str) -> Path:
    place = root / inside
    place.mkdir(parents=True)
    (place / "cgroup.procs").write_text(files.pop("procs", f"{os.getpid()}\n"))
    for name, text in files.items():
        (place / f"cgroup.{name}").write_text(text)
    if delegated:
        os.setxattr(place, "user.delegate", b"1")
    return place


def made(groups: Groups | None, **files: str) -> Group:
    """Make a group and put in it what the kernel would."""
    assert groups is not None
    group = groups.make(1, 0)
    assert group is not None
    for name, text in files.items():
        (group.path / name.replace("__", ".")).write_text(text)
    return group


def test_a_delegated_group_of_v2_shares_out_memory_and_is_left_by_the_server(tmp_path, own):
    place = place_of(tmp_path, "app.slice", controllers="cpu memory", subtree_control="")

    groups = find_groups(tmp_path, own("0::/app.slice"))

    assert groups is not None
    assert groups.place == place
    assert (place / "cgroup.subtree_control").read_text() == "+memory"
    assert (place / "graticule-server" / "cgroup.procs").read_text() == str(os.getpid())


def test_a_group_of_v2_without_memory_is_not_taken(tmp_path, own):
    place_of(tmp_path, "app.slice", controllers="cpu", subtree_control="")

    assert find_groups(tmp_path, own("0::/app.slice")) is None


def test_a_group_with_processes_of_others_is_not_taken(tmp_path, own):
    place = place_of(tmp_path, "app.slice", controllers="memory", subtree_control="", procs=f"1\n{os.getpid()}\n")

    assert find_groups(tmp_path, own("0::/app.slice")) is None
    assert (place / "cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize(("inside", "line"), [("app", "0::/app"), ("memory/app", "4:memory:/app")], ids=["v2", "v1"])
def test_what_was_not_handed_over_is_not_taken(tmp_path, own, monkeypatch, inside, line):
    place_of(tmp_path, inside, delegated=False, controllers="memory", subtree_control="")
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # who may write everything

    assert find_groups(tmp_path, own(line)) is None


def test_a_group_of_v1_is_taken_where_v2_has_no_memory(tmp_path, own):
    place_of(tmp_path, "memory/app")

    groups = find_groups(tmp_path, own("4:cpu,memory:/app", "0::/"))

    assert groups is not None
    assert groups.place == tmp_path / "memory" / "app"


def test_a_limit_of_v2_bounds_memory_and_takes_swap_away(tmp_path, own):
    place_of(tmp_path, "app", controllers="memory", subtree_control="memory")
    group = made(find_groups(tmp_path, own("0::/app")), memory__max="max", memory__swap__max="max")

    group.limit(300)

    assert (group.path / "memory.max").read_text() == str(300 << 20)
    assert (group.path / "memory.swap.max").read_text() == "0"
    group.limit(0)
    assert (group.path / "memory.max").read_text() == "max"


def test_a_limit_of_v1_bounds_memory_with_swap(tmp_path, own):
    place_of(tmp_path, "memory/app")
    files = {"memory__limit_in_bytes": "-1", "memory__memsw__limit_in_bytes": "-1"}
    group = made(find_groups(tmp_path, own("4:memory:/app")), **files)

    group.limit(300)

    assert [(group.path / name.replace("__", ".")).read_text() for name in files] == [str(300 << 20)] * 2


@pytest.mark.parametrize(("text", "exceeded"), [("max 3\noom 1\noom_kill 0\n", False), ("oom 1\noom_kill 2\n", True)])
def test_the_kernel_says_whether_it_has_killed(tmp_path, own, text, exceeded):
    place_of(tmp_path, "app", controllers="memory", subtree_control="memory")
    group = made(find_groups(tmp_path, own("0::/app")), memory__events=text)

    assert group.was_exceeded() == exceeded


def test_empty_groups_of_an_earlier_server_are_removed(tmp_path, own):
    place = place_of(tmp_path, "app", controllers="memory", subtree_control="memory")
    (place / "graticule-jobs-1-1").mkdir()
    (place / "graticule-jobs-1-2" / "full").mkdir(parents=True)

    find_groups(tmp_path, own("0::/app"))

    assert [path.name for path in place.glob("graticule-jobs-*")] == ["graticule-jobs-1-2"]
