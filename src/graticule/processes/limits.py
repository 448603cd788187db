"""What the jobs of a process may use: where limits are stated, which of them holds, what a request may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from graticule.errors import Fault
from graticule.ogc.processes import Limits

HIGHEST_LIMIT = 10**9
"""What a request may ask for where the service sets no limit."""

_MEMBERS = [(field.name, field.encode_name) for field in msgspec.structs.fields(Limits)]


def first_stated(*stated: Limits) -> Limits:
    """Return each limit as the first of several says that says anything about it."""
    return Limits(
        **{
            name: next((value for one in stated if (value := getattr(one, name)) is not None), None)
            for name, _ in _MEMBERS
        }
    )


def limit_faults(asked: Limits, most: Limits) -> Iterator[Fault]:
    """Yield a fault for each limit of a request that is none, or higher than the process may have."""
    for name, member in _MEMBERS:
        value, highest = getattr(asked, name), getattr(most, name)
        if value is None:
            continue
        if not 1 <= value <= HIGHEST_LIMIT:
            yield Fault(f"/limits/{member}", f"{value:g} is no limit; send a number from 1 to {HIGHEST_LIMIT}, or none")
        elif highest and value > highest:
            yield Fault(
                f"/limits/{member}",
                f"{value:g} is more than jobs of this process may have, {highest:g}; ask for less, or ask whoever runs "
                f"this service to raise {name}",
            )


def limits_of(asked: Limits | None, most: Limits) -> Limits:
    """Return the limits of a job: what its request asks for, else those of its process."""
    return most if asked is None else first_stated(asked, most)
