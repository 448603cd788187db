"""Which processes there are: every kind of process comes from a source, and the catalogue asks them in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graticule.errors import NoSuchProcess
from graticule.ogc.processes import NO_LIMITS, Limits, ProcessDescription
from graticule.processes.inputs import InputChecker


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A process that can be run here."""

    description: ProcessDescription
    ref: Any
    """Where a job process finds it; the executor knows what it means."""
    fresh: bool = False
    """Whether every job of it wants a new job process."""
    limits: Limits = NO_LIMITS
    """What each of its jobs may use at most, and does unless its request asks for less."""
    requires: str = ""
    """What a machine must have to run it, one of its ``jobs.labels``; empty: nothing."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_checker", None)

    @property
    def checker(self) -> InputChecker:
        """What checks its inputs; its validators are compiled when it is first asked for."""
        if self._checker is None:  # type: ignore[attr-defined]
            object.__setattr__(self, "_checker", InputChecker(self.description))
        return self._checker  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPlugin:
    """A plug-in that could not be loaded."""

    reference: str
    reason: str


class ProcessSource(Protocol):
    """Where processes come from: plug-ins, application packages, published workflows."""

    @property
    def revision(self) -> int:
        """Grows whenever a process comes, goes or changes."""

    def offers(self) -> Sequence[Offer]:
        """Return the processes, in the order they are listed."""

    def find(self, process_id: str) -> Offer | None:
        """Return the process of that identifier, if it has one."""


@dataclass
class PluginSource:
    """Processes that were described at the start: built-in ones and plug-ins."""

    revision: int = 0
    broken: list[BrokenPlugin] = field(default_factory=list)
    _offers: dict[str, Offer] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Offer one more process; a later one of the same identifier replaces an earlier one."""
        self._offers[offer.description.id] = offer
        self.revision += 1

    def remove(self, process_id: str) -> None:
        """Offer a process no longer, if it is offered."""
        if self._offers.pop(process_id, None) is not None:
            self.revision += 1

    def offers(self) -> Sequence[Offer]:
        return list(self._offers.values())

    def find(self, process_id: str) -> Offer | None:
        return self._offers.get(process_id)


class Catalog:
    """All processes of a workspace.

    Parameters
    ----------
    sources : sequence of ProcessSource
        Asked in this order; the first that has an identifier is the one that is run.
    allowed : callable, optional
        Says of an identifier whether it is offered here.
    """

    def __init__(self, sources: Sequence[ProcessSource], allowed: Callable[[str], bool] = lambda _: True) -> None:
        self._sources = tuple(sources)
        self._allowed = allowed
        self._listed: tuple[int, list[Offer]] = (-1, [])

    @property
    def revision(self) -> int:
        """Grows whenever a list or description made from this catalogue is out of date."""
        return sum(source.revision for source in self._sources)

    def offers(self) -> list[Offer]:
        """Return all processes, sources in their order."""
        revision, listed = self._listed
        if revision != self.revision:
            seen: dict[str, Offer] = {}
            for source in self._sources:
                for offer in source.offers():
                    if self._allowed(offer.description.id):
                        seen.setdefault(offer.description.id, offer)
            listed = list(seen.values())
            self._listed = (self.revision, listed)
        return listed

    def get(self, process_id: str) -> Offer:
        """Return a process; raises NoSuchProcess."""
        offer = self.find(process_id)
        if offer is None:
            raise NoSuchProcess(process_id)
        return offer

    def find(self, process_id: str) -> Offer | None:
        """Return a process, if there is one of that identifier."""
        if self._allowed(process_id):
            for source in self._sources:
                offer = source.find(process_id)
                if offer is not None:
                    return offer
        return None
