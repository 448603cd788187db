"""What the Prefer header means for jobs that are created before they run."""

from __future__ import annotations

import pytest

from graticule.ogc.processes import ProcessDescription
from graticule.web.preferences import decide_start_mode, parse_prefer, split_created


@pytest.mark.parametrize(("header", "expected"), [
    ("", (False, "")), ('status="created"', (True, "")), ("status=created", (True, "")),
    ('respond-async, status="created"', (True, "respond-async")),
    ('Status="CREATED"; wait=5', (True, " wait=5")),
    ("status=running", (False, "status=running")), ('profile="status=created"', (False, 'profile="status=created"')),
])  # fmt: skip
def test_the_preference_for_a_created_job_is_split_off(header, expected):
    assert split_created(header) == expected


@pytest.mark.parametrize(("controls", "prefer", "waits", "applied"), [
    (["sync-execute", "async-execute"], "", False, ()),
    (["sync-execute", "async-execute"], "respond-async", False, ("respond-async",)),
    (["sync-execute", "async-execute"], "wait=5", True, ("wait=5",)),
    (["sync-execute", "async-execute"], "respond-async, wait=5", True, ("respond-async", "wait=5")),
    (["sync-execute"], "", True, ()),
    (["sync-execute"], "respond-async", True, ()),
    (["async-execute"], "wait=5", False, ()),
])  # fmt: skip
def test_a_start_waits_only_if_it_is_preferred_or_there_is_no_other_way(controls, prefer, waits, applied):
    description = ProcessDescription(id="p", version="1", job_control_options=controls)

    mode = decide_start_mode(description, parse_prefer(prefer), 60)

    assert (mode.waits, mode.applied) == (waits, applied)


@pytest.mark.parametrize(
    ("header", "wait", "returns"),
    [
        ("wait=1, wait=5", 1, None),
        ("wait=soon, wait=5", None, None),
        ("return=minimal; RETURN=representation, wait=2", 2, "minimal"),
    ],
)
def test_of_a_preference_that_is_repeated_the_first_counts(header, wait, returns):
    prefer = parse_prefer(header)

    assert (prefer.wait, prefer.returns) == (wait, returns)
