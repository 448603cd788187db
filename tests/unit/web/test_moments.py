"""Moments as pages tell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from graticule.web.pages import ahead, interval

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "soon"), (4, "soon"), (40, "in about 40 s"), (100, "in about 2 min"), (7200, "in about 2 h")],
)
def test_what_is_ahead_is_told_in_one_unit(seconds: int, words: str) -> None:
    assert ahead((NOON + timedelta(seconds=seconds)).isoformat(), now=NOON) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-01T12:00:00Z", "at 2026-03-01 12:00:00 UTC"),
        ("2026-03-01T12:00:00Z/..", "from 2026-03-01 12:00:00 UTC"),
        ("../2026-03-01T12:00:00+01:00", "to 2026-03-01 11:00:00 UTC"),
        ("2026-03-01T12:00:00Z/2026-03-02T12:00:00Z", "from 2026-03-01 12:00:00 UTC to 2026-03-02 12:00:00 UTC"),
    ],
)
def test_an_interval_is_told_in_words(text: str, words: str) -> None:
    assert interval(text) == words
