"""Logs that a killed server leaves in its scratch folder."""

from __future__ import annotations

from pathlib import Path

from graticule.jobs.leftovers import LINKS, gather_logs


def scratch_of(place: Path) -> Path:
    """A scratch folder as it is when a server is killed."""
    scratch = place / "scratch"
    for name in (
        "jobs/stepped/logs",
        "jobs/stepped/inputs",
        "jobs/ending.kept/outputs",
        "jobs/ending",
        "children/1",
        LINKS,
    ):
        (scratch / name).mkdir(parents=True)
    (scratch / "jobs/stepped/logs/tile.log").write_text("tiles")
    (scratch / "jobs/stepped/inputs/dem.tif").write_text("an input")
    (scratch / "jobs/ending.kept/process.log").write_text("all")
    (scratch / "jobs/ending.kept/outputs/big").write_text("a result")
    (scratch / "children/1.log").write_text("of somebody")
    for name in ("stepped", "printed", "ending"):
        (scratch / LINKS / f"{name}.log").write_text(f"of {name}")
    return scratch


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_logs_are_gathered_by_job_and_all_else_goes(tmp_path: Path):
    scratch = scratch_of(tmp_path)

    left = gather_logs(scratch)

    assert contents(left) == {
        "stepped/logs/tile.log": "tiles",
        "stepped/process.log": "of stepped",
        "printed/process.log": "of printed",
        "ending.kept/process.log": "all",
    }
    assert list(scratch.iterdir()) == [left]


def test_a_folder_that_a_job_has_closed_keeps_nobody_from_starting(tmp_path: Path):
    scratch = scratch_of(tmp_path)
    (scratch / "jobs/stepped").chmod(0)

    left = gather_logs(scratch)

    assert contents(left)["printed/process.log"] == "of printed"
    assert contents(gather_logs(scratch)) == contents(left)


def test_a_new_scratch_folder_has_none(tmp_path: Path):
    assert contents(gather_logs(tmp_path / "scratch")) == {}
