"""One line when something is out of order, instead of one for each attempt."""

from __future__ import annotations

import logging
import threading

from graticule.jobs.clock import steady

_EVERY_S = 10.0
"""Seconds between two lines while it lasts."""


class Outage:
    """Says in a log that something does not work: when it begins, now and then while it lasts, and when it is over.

    Parameters
    ----------
    log : logging.Logger
        Where it is said.
    what : str
        What does not work, a clause: ``the ledger cannot be written``.
    """

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._lock = threading.Lock()
        self._began: float | None = None
        self._said = float("-inf")
        self._told = False

    def goes_on(self, reason: object) -> None:
        """Hear that an attempt has failed."""
        at = steady()
        with self._lock:
            if self._began is None:
                self._began, self._told = at, False
            if at - self._said < _EVERY_S:
                return
            self._said, self._told = at, True
        self._log.error("%s: %s", self._what, reason)

    def over(self) -> None:
        """Hear that an attempt was successful; costs nothing where none had failed."""
        if self._began is None:
            return
        with self._lock:
            began, self._began = self._began, None
        if began is not None and self._told:
            self._log.warning("it is over after %.0f s that %s", steady() - began, self._what)
