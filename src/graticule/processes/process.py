"""The one thing to run: a description plus ``run(inputs, context) -> outputs``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from graticule.ogc.processes import ProcessDescription


class Dismissed(BaseException):
    """Raised inside a running process when it must stop.

    It derives from BaseException so that a process's own ``except Exception`` does not swallow it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class InputValue:
    """One value of one input, resolved: references are fetched, binary is decoded."""

    pointer: str
    """Where it stood in the request, as a JSON pointer; used to name faults."""

    value: Any = None
    """The JSON value, or ``bytes`` for inline binary. None when the content is in `file` or behind `href`."""

    media_type: str | None = None
    """As sent, as the reference's server said, or the schema's default; None for plain JSON literals."""

    href: str | None = None
    """The address, when the value came by reference."""

    file: Path | None = None
    """The content as a local file, when it came by reference or was too large to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputValue:
    """One value of one output."""

    value: Any = None
    """A JSON value, ``str`` for text, or ``bytes`` for binary and JSON documents; ignored with `file` or `href`."""

    media_type: str | None = None
    """None: ``application/json``; text or binary of another kind names it."""

    file: Path | None = None
    """A finished file inside the job's folder; it is moved, not copied."""

    href: str | None = None
    """An address elsewhere, handed out as a link."""

    title: str | None = None


Inputs = Mapping[str, InputValue | list[InputValue]]
"""Resolved inputs by identifier: a list exactly where the description allows more than one value."""

Outputs = Mapping[str, OutputValue | list[OutputValue]]
"""Outputs by identifier. One that was not produced is absent."""


class RunContext(Protocol):
    """All that a running process may ask for."""

    @property
    def folder(self) -> Path:
        """A scratch folder of this job alone; result files are written here. It is removed when the job ends."""

    @property
    def stopping(self) -> bool:
        """True once the process must stop: somebody dismissed the job, or a limit was reached."""

    @property
    def wanted(self) -> frozenset[str]:
        """Identifiers of the outputs that were asked for; computing others may be skipped."""

    def wanted_media_type(self, output_id: str) -> str | None:
        """Return the media type that the request names for an output, if it names one."""

    def report(self, progress: int, message: str = "") -> None:
        """Tell how far the work is, in percent from 0 to 100; raises Dismissed when it must stop."""

    def log(self, step: str) -> TextIO:
        """Open the log of a named step for writing text; what is printed goes to the job's own log anyway."""


@runtime_checkable
class Process(Protocol):
    """A process as the engine sees it."""

    @property
    def description(self) -> ProcessDescription:
        """What is published."""

    def run(self, inputs: Inputs, context: RunContext) -> Outputs:
        """Do the work: plain, blocking, testable alone."""
