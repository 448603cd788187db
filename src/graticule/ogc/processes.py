"""Process descriptions and execute requests (OGC API - Processes Part 1, 1.0 and 2.0 draft).

Both editions are served from one document: the schemas in a description keep to the common subset of OpenAPI 3.0
and JSON Schema 2020-12 (no type arrays, ``const``, ``$defs``, numeric exclusive bounds).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from graticule.ogc.common import Document, Link
from graticule.ogc.notifications import AuthorizationType

JobControl = Literal["sync-execute", "async-execute", "dismiss"]
Transmission = Literal["value", "reference"]
Schema = dict[str, Any]
"""A JSON Schema fragment for ONE instance of a value."""


class Metadata(Document, frozen=True, kw_only=True):
    """A pointer to more about a process or one of its inputs or outputs."""

    title: str | None = None
    role: str | None = None
    href: str | None = None


class Input(Document, frozen=True, kw_only=True):
    """An input of a process (inputDescription.yaml)."""

    title: str | None = None
    description: str | None = None
    keywords: list[str] | None = None
    metadata: list[Metadata] | None = None
    schema: Schema
    min_occurs: int = 1
    max_occurs: int | Literal["unbounded"] = 1
    value_passing: list[Literal["byValue", "byReference"]] | None = None

    @property
    def is_list(self) -> bool:
        """Whether values come as an array, which they do exactly when more than one is allowed."""
        return self.max_occurs == "unbounded" or self.max_occurs > 1


class Output(Document, frozen=True, kw_only=True):
    """An output of a process (outputDescription.yaml)."""

    title: str | None = None
    description: str | None = None
    keywords: list[str] | None = None
    metadata: list[Metadata] | None = None
    schema: Schema
    min_occurs: int = 1
    max_occurs: int | Literal["unbounded"] = 1

    @property
    def is_list(self) -> bool:
        """Whether values come as an array, even if there is one."""
        return self.max_occurs == "unbounded" or self.max_occurs > 1


class Example(Document, frozen=True, kw_only=True):
    """A ready execute request, shown on the page of a process."""

    title: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None


class ProcessDescription(Document, frozen=True, kw_only=True):
    """A process as it is published (process.yaml); a summary is the same without inputs and outputs."""

    id: str
    version: str
    title: str | None = None
    description: str | None = None
    keywords: list[str] | None = None
    metadata: list[Metadata] | None = None
    job_control_options: list[JobControl] = msgspec.field(
        default_factory=lambda: ["sync-execute", "async-execute", "dismiss"]
    )
    output_transmission: list[Transmission] = msgspec.field(default_factory=lambda: ["value", "reference"])
    inputs: dict[str, Input] = {}
    outputs: dict[str, Output] = {}
    examples: list[Example] | None = None
    """Ours: ready requests. Names of sample files stand as ``sample:NAME`` and are resolved by the server."""
    links: list[Link] | None = None

    @property
    def allows_sync(self) -> bool:
        return "sync-execute" in self.job_control_options

    @property
    def allows_async(self) -> bool:
        return "async-execute" in self.job_control_options


class Authorization(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ours: how a receiver knows that it is told by this service. A `profile`, or a `type` with what belongs to it."""

    type: AuthorizationType | UnsetType = UNSET
    secret: str | list[str] | UnsetType = UNSET
    """Of ``hmac``; several while they are exchanged."""
    username: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    token: str | UnsetType = UNSET
    profile: str | UnsetType = UNSET
    """Name of a notification profile, which holds all others."""

    def __repr__(self) -> str:
        return f"Authorization(type={self.type!r}, profile={self.profile!r})"  # secrets appear in no log


class Subscriber(Document, frozen=True, kw_only=True):
    """Where to tell about a job (subscriber.yaml); each address is optional, as in the 2.0 draft."""

    success_uri: str | None = None
    in_progress_uri: str | None = None
    failed_uri: str | None = None
    success_url: str | None = None
    """The schema of 1.0 requires the first one under this name, its text under the other; either is taken."""
    authorization: Authorization | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """Return the addresses by the names of their members."""
        named = {
            "successUri": self.success_uri,
            "inProgressUri": self.in_progress_uri,
            "failedUri": self.failed_uri,
            "successUrl": self.success_url,
        }
        return {name: address for name, address in named.items() if address is not None}


class Format(Document, frozen=True, kw_only=True):
    """The encoding that is wanted of an output."""

    media_type: str | None = None
    encoding: str | None = None
    schema: str | dict[str, Any] | None = None


class WantedOutput(Document, frozen=True, kw_only=True):
    """How one output is wanted (output.yaml)."""

    format: Format | None = None
    transmission_mode: Transmission | None = None


class Limits(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a job may use. None: not said here; 0, where the service says it: without a limit."""

    time_limit_s: float | None = None
    """Seconds from its beginning."""
    memory_limit_mib: int | None = None
    """MiB that it and all that it starts may hold."""
    disk_limit_mib: int | None = None
    """MiB of files in its folder, outputs included."""
    log_limit_mib: int | None = None
    """MiB that it may print."""


NO_LIMITS = Limits()

LABEL = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}$"
"""A label of a job."""
MOST_LABELS = 16


class Execute(Document, frozen=True, kw_only=True):
    """An execute request (execute.yaml). Inputs stay as sent; ``processes/inputs.py`` reads them."""

    inputs: dict[str, Any] = {}
    outputs: dict[str, WantedOutput] | None = None
    """None: all outputs. Empty: run and return nothing (2.0)."""
    response: Literal["raw", "document"] | None = None
    subscriber: Subscriber | None = None
    limits: Limits | None = None
    """Ours: what this job may use, at most what the process may."""
    labels: list[str] | None = None
    """Ours: what its sender calls the job, to find it again."""


class JobRequest(Execute, frozen=True, kw_only=True):
    """An execute request as the list of jobs takes it: it names its process (execute-workflows.yaml)."""

    process: str = ""
    """Address of the process; a relative one starts at the address of the service."""
    status: Literal["create"] | None = None
    """``create``: keep the job, and start it later. Other servers' habit; the standard has a preference for it."""
