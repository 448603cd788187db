"""How many files this process may have open, connections among them."""

from __future__ import annotations

import contextlib
import resource


def allow_most() -> tuple[int, int]:
    """Let this process have as many files open as the system allows it.

    Returns
    -------
    tuple of int
        How many it may have now, and how many it might before: code that uses ``select()`` relies on that being small.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system that says more than it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0], before
