"""Pieces of logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from graticule.jobs.job import Job
from graticule.jobs.log import Logs, cut, iter_lines, whole_characters

KOELN = "Köln €5 🜨".encode()


@pytest.mark.parametrize("end", range(len(KOELN) + 1))
def test_a_piece_never_ends_within_a_character(end):
    whole = whole_characters(KOELN[:end])

    assert KOELN.startswith(whole)
    assert whole.decode() == KOELN[:end].decode(errors="ignore")


def test_bytes_that_are_no_text_are_shown_all_the_same():
    assert whole_characters(b"\x80\x80\x80\x80\x80") == b"\x80\x80\x80\x80\x80"


@pytest.mark.parametrize(
    ("data", "more", "lines", "shown"),
    [
        (b"one\ntwo", True, False, b"one\n"),
        (b"one\ntwo", False, False, b"one\ntwo"),
        (b"half", True, False, b"half"),
        (b"half", True, True, b""),
        (b"half", False, True, b"half"),
    ],
)
def test_a_page_ends_with_a_line_where_it_can(data, more, lines, shown):
    assert cut(data, more=more, lines=lines) == shown


def test_lines_have_their_offset_and_their_time_where_it_is_known():
    data = b'2026-01-02T03:04:05Z go\nplain\r\n{"level": "info", "time": "2026-01-02 03:04:06,5+01:00"}\n\nrest'

    lines = list(iter_lines(data, 100))

    assert [(line.offset, line.text, line.time) for line in lines] == [
        (100, "2026-01-02T03:04:05Z go", "2026-01-02T03:04:05.000000Z"),
        (124, "plain", None),
        (131, '{"level": "info", "time": "2026-01-02 03:04:06,5+01:00"}', "2026-01-02T02:04:06.500000Z"),
        (188, "", None),
        (189, "rest", None),
    ]


def test_a_moment_that_there_is_not_is_no_time():
    (line,) = iter_lines(b"2026-02-30T03:04:05Z", 0)

    assert line.time is None


async def test_a_log_that_goes_to_another_job_while_it_is_opened_is_not_read(tmp_path: Path):
    log = tmp_path / "1.log"
    log.write_text("of the next job")
    asked = []

    def live(job_id: str) -> dict[str, Path]:
        asked.append(job_id)
        return {"process": log} if len(asked) == 1 else {}  # its end is heard right after the file was opened

    logs = Logs(live, lambda _: {})

    assert await logs.open(Job(id="j1", process="p", status="running", started=1), "process") is None


async def test_a_log_is_read_on_while_it_moves_into_storage(tmp_path: Path):
    log, kept = tmp_path / "1.log", tmp_path / "process.log"
    log.write_text("first ")
    job = Job(id="j1", process="p", status="running", started=1)
    logs = Logs(
        lambda _: {"process": log} if log.exists() else {}, lambda _: {"process": kept} if kept.exists() else {}
    )

    opened = await logs.open(job, "process")
    assert opened is not None
    with log.open("a") as file:
        file.write("last")
    log.rename(kept)

    assert await opened.read(0, 100) == b"first last"
    assert logs.places(job) == {"process": kept}
    opened.close()
