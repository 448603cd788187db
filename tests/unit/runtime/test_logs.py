"""Lines of the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from graticule.runtime.logs import ASKED, Asked, configure_logs, get_log

JOB = "01a1fed3-45a9-7d96-8ed0-6560f227019f"


@pytest.fixture
def lines() -> Iterator[object]:
    """Give the lines that were written."""
    root = logging.getLogger()
    before = root.handlers, root.level
    configure_logs("json")
    (handler,), written = root.handlers, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers, level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_what_modules_log_in_their_ways_comes_out_in_one_form(lines):
    logging.getLogger("graticule.jobs").warning("job %s cannot be begun: %s", JOB, "no process left")
    get_log("graticule.test").info("disk.full", free_mib=3)

    plain, structured = lines()
    assert (plain["event"], plain["level"], plain["job"]) == (
        f"job {JOB} cannot be begun: no process left",
        "warning",
        JOB,
    )
    assert (structured["event"], structured["free_mib"]) == ("disk.full", 3)
    assert plain["timestamp"] <= structured["timestamp"]


def test_a_line_is_bound_to_its_request_but_not_one_about_another_job(lines):
    token = ASKED.set(asked := Asked("r1", job="mine"))
    log = get_log("graticule.test")
    log.info("a")
    log.info("b", job="another")
    asked.over = True
    log.info("c")
    ASKED.reset(token)

    first, second, third = lines()
    assert (first["request"], first["job"]) == ("r1", "mine")
    assert "request" not in second
    assert "request" not in third


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://me:S3CRET@db/x",
        "refused: Authorization: Bearer S3CRET.abc",
        "GET https://s3/x?X-Amz-Signature=S3CRET&X-Amz-Date=1",
        "https://example.org/?token=S3CRET",
    ],
)
def test_secrets_are_never_written(lines, text):
    log = get_log("graticule.test")
    log.warning(text, authorization="S3CRET", why=text)
    log.error("broken", password="S3CRET", exc_info=ValueError(text))

    written = lines()
    assert len(written) == 2
    assert "S3CRET" not in json.dumps(written)
    assert "ValueError" in written[1]["exception"]
