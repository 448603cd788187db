"""Limits: who states them, who wins, what a request may ask for."""

from __future__ import annotations

import pytest

from graticule.ogc.processes import NO_LIMITS, Limits
from graticule.processes.limits import first_stated, limit_faults, limits_of


def test_the_first_that_states_a_limit_wins():
    operator, author, default = (
        Limits(time_limit_s=0),
        Limits(time_limit_s=5, disk_limit_mib=1),
        Limits(log_limit_mib=9),
    )

    assert first_stated(operator, author, default) == Limits(time_limit_s=0, disk_limit_mib=1, log_limit_mib=9)


def test_a_request_that_says_nothing_has_the_limits_of_its_process():
    most = Limits(time_limit_s=60, memory_limit_mib=100)

    assert limits_of(None, most) == most
    assert limits_of(Limits(time_limit_s=5), most) == Limits(time_limit_s=5, memory_limit_mib=100)


@pytest.mark.parametrize(
    ("asked", "pointers"),
    [
        (Limits(time_limit_s=60), []),
        (Limits(time_limit_s=61, memory_limit_mib=10**6), ["/limits/timeLimitS"]),
        (Limits(time_limit_s=0.5), ["/limits/timeLimitS"]),
        (Limits(disk_limit_mib=0), ["/limits/diskLimitMib"]),
        (Limits(log_limit_mib=10**9 + 1), ["/limits/logLimitMib"]),
    ],
)
def test_a_request_may_ask_for_less_but_not_for_more(asked, pointers):
    assert [fault.pointer for fault in limit_faults(asked, Limits(time_limit_s=60))] == pointers


def test_where_nothing_is_limited_a_request_may_ask_for_anything():
    assert not [*limit_faults(Limits(time_limit_s=10**9), NO_LIMITS)]
