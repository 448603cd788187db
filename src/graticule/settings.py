"""What whoever runs the service may set, and how it is read: defaults < file < variables < command line.

One frozen object with nested sections. A limit of 0 means: none. Relative paths in a settings file start at the folder
of that file, elsewhere at the working folder.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from graticule.errors import InvalidSetting
from graticule.pygeoapi_settings import read_pygeoapi

PREFIX = "GRATICULE_"

CLIENT_VARIABLES = frozenset({"GRATICULE_URL", "GRATICULE_TOKEN", "GRATICULE_WORKSPACE", "GRATICULE_CONFIG"})
"""Variables that the command line reads for itself; settings never clash with them, having two underscores."""

RESERVED_WORKSPACES = frozenset(
    {
        "api",
        "processes",
        "jobs",
        "conformance",
        "static",
        "files",
        "health",
        "metrics",
        "admin",
        "notification-profiles",
    }
)
"""First path segments that mean something else, so that no workspace may have them."""

_TEST_PREFIX = "GRATICULE_TEST_"  # what the test suite reads

_SECRET = {"secret": True}
_PASSWORD = {"secret": True, "url": True}
_SIGNING_SECRET = "^(whsec_)?([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"  # noqa: S105 - its form
_PATH = {"path": True}

_LONGEST_S = 1e9
"""Seconds that any setting may say: thirty years, for infinity is no time that something could be over."""

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, le=_LONGEST_S)]
PathText = Annotated[str, Meta(extra=_PATH)]
PathTexts = Annotated[tuple[str, ...], Meta(extra=_PATH)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that belong together."""


class Server(Section, frozen=True, kw_only=True):
    """Where the service listens and what it takes from a request."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback, so that nothing is offered to a network before somebody decides it."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one, which is printed at the start."""

    public_url: str = ""
    """Absolute address under which clients reach the service, path prefix included; every link begins with it.

    Empty: what the request says, and Forwarded headers if they come from `trusted_proxies`.
    """

    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (CIDR) whose Forwarded and X-Forwarded-* headers are believed, e.g. ``10.0.0.0/8``.

    Nobody by default: whoever may set these headers decides where every link leads.
    """

    title: str = "Graticule"
    """Name of the service on its landing page."""

    description: str = "Geoprocessing over the web"
    """One sentence for the landing page."""

    sync_limit_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] = 60.0
    """Seconds that a synchronous execution may hold its connection; proxies in between often give up after 60."""

    stall_limit_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] = 30.0
    """Seconds that a request may stand still before it is complete; then it is answered 408 and its connection ends.

    Nobody holds a connection by sending nothing, while an upload over a slow line may take as long as it needs.
    """

    body_limit_mib: Positive = 32
    """MiB that the body of a request may have, uploads excepted; larger values are sent by reference."""

    upload_limit_mib: Count = 10_240
    """MiB that one uploaded file may have; 0: no limit but the disk."""

    cors_origins: tuple[str, ...] = ("*",)
    """Origins whose pages may read from the service (CORS); ``*`` is everyone, empty is nobody else.

    Everyone by default, as open geodata services do; tokens travel in a header, never in a cookie.
    """

    log_format: Literal["console", "json"] = "console"
    """How logs are written to standard error: ``console`` for people, ``json`` for what collects them."""

    access_log: bool = False
    """Whether each request and each end of a job gets a line in the log.

    Not by default: `/metrics` counts them at no cost, a line costs as much as a small answer.
    """


class Database(Section, frozen=True, kw_only=True):
    """Where the ledger of jobs is kept."""

    url: Annotated[str, Meta(extra=_PASSWORD)] = ""
    """``postgresql://user:password@host:port/name``, or ``sqlite:///path``. Empty: an SQLite file in the home folder.

    SQLite serves one server on one machine and needs no care; PostgreSQL serves several.
    """


class Jobs(Section, frozen=True, kw_only=True):
    """How many jobs run, how long and how large."""

    workers: Count = 2
    """Jobs that run at the same time on this machine. Each may use a whole core and the memory of its rasters.

    With `executor` ``dask``: those that run at the same time on the cluster, if its workers offer as many places.

    0, where other machines run `graticule worker` on the same database: none here.
    """

    create_default: Literal["execute", "created"] = "execute"
    """What becomes of a job that is sent to the list of jobs: ``execute`` runs it, ``created`` keeps it for its start.

    Drafts of OGC API - Processes Part 4 differ; ``Prefer: status="created"`` goes before it.
    """

    executor: Literal["local", "dask"] = "local"
    """Where the processes of jobs run: ``local`` is this machine, ``dask`` the workers of a Dask cluster.

    The latter needs a library of its own: ``pip install graticule[dask]``.
    """

    dask_scheduler: str = ""
    """Address of the Dask scheduler, ``tcp://host:8786`` or ``tls://host:8786``. Empty: a cluster on this machine.

    Its workers offer ``--resources graticule=N`` for N jobs at the same time each.
    """

    memory_limit_mib: Count = 0
    """MiB that a job and all its children may hold; one that grows above it is stopped and failed. 0: no limit.

    This and the next three are what holds where neither a process itself nor ``processes.NAME`` says otherwise.
    """

    time_limit_s: Seconds = 0.0
    """Seconds that a job may run before it is stopped and failed. 0: no limit."""

    disk_limit_mib: Count = 0
    """MiB that the folder of a running job may hold, results and temporary files included. 0: no limit.

    It is measured four times a second: until then a job may have written more, which goes with its folder."""

    log_limit_mib: Count = 1024
    """MiB that a job may print before it is stopped and failed; one that never stops printing fills the disk. 0: no
    limit.

    It is looked at fifty times a second, at logs of steps four times. What comes beyond the limit until then, some tens
    of MiB of a job that prints as fast as the disk takes it, is cut off before the log is kept."""

    recycle_mib: Count = 512
    """MiB by which a kept job process may have grown before it is replaced; libraries leak, slowly. 0: never."""

    recycle_jobs: Count = 1000
    """Jobs after which a kept job process is replaced. 0: never."""

    idle_s: Seconds = 60.0
    """Seconds that a job process waits for the next job of the same process before it ends and frees its memory."""

    lease_s: Annotated[float, Meta(ge=1, le=_LONGEST_S)] = 10.0
    """Seconds after which the jobs of an agent that is not heard of go to another; renewed four times as often."""

    grace_s: Seconds = 5.0
    """Seconds that running jobs may go on, and clients wait, when the service is stopped; other jobs wait again."""

    max_attempts: Positive = 3
    """How often a job is begun whose worker is lost each time, or whose input cannot be fetched for the moment."""

    labels: tuple[str, ...] = ()
    """What this machine has, such as `gpu`: only here run the jobs of processes that ask for it."""

    max_running: Count = 0
    """Jobs that run at the same time on all machines together. 0: as many as there are workers."""

    max_per_process: Count = 0
    """Jobs of one process that run at the same time; `processes.NAME.max_running` goes before. 0: no limit."""

    max_per_workspace: Count = 0
    """Jobs of one workspace that run at the same time. 0: no limit."""

    max_per_actor: Count = 0
    """Jobs of one actor that run at the same time, in each workspace. 0: no limit."""

    max_waiting: Count = 0
    """Jobs that may wait; further ones are answered 429, however many come at once to however many servers. Those that
    were taken stay when they must wait again, as after their worker was lost. 0: no limit."""

    max_waiting_per_actor: Count = 0
    """Jobs of one actor that may wait, in each workspace; further ones are answered 429. 0: no limit."""

    ageing_s: Seconds = 60.0
    """Seconds for which a priority that is not served is raised by one, so that nothing waits for ever. 0: never."""


class Worker(Section, frozen=True, kw_only=True):
    """Where `graticule worker` tells how it is; it serves nothing else."""

    host: str = "127.0.0.1"
    """Address at which `/health` and `/metrics` of a worker answer; who may read the latter is said by `telemetry`."""

    port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """Port for them; 0 takes a free one, which is printed at the start. Unset: a worker listens nowhere."""


class Storage(Section, frozen=True, kw_only=True):
    """Where files lie and how long."""

    home: PathText = "graticule-home"
    """Folder of everything the server keeps: ledger, results, logs, scratch, sample data. One server owns a home."""

    folder: PathText = ""
    """Folder of results and uploads. Empty: below the home; name another disk if results are large.

    With a `url`, only uploads that are not complete lie here.
    """

    url: str = ""
    """Where results and uploads are kept instead: ``s3://bucket/prefix``. Empty: in `folder`.

    Any object storage that speaks S3; servers of several machines share one. At the start a file is written there and
    read back.
    """

    endpoint: str = ""
    """Address of the object storage, ``https://s3.example.org``. Empty: that of AWS in the `region`."""

    region: str = "us-east-1"
    """Region that requests are signed for; most object storages other than AWS take the default."""

    access_key_id: str = ""
    """Name of the key to the object storage. Empty: what the machine offers, as AWS's own tools find it."""

    secret_access_key: Annotated[str, Meta(extra=_SECRET)] = ""
    """The secret of that key. Job processes never get it."""

    signed_urls: Annotated[int, Meta(ge=0, le=604_800)] = 0
    """Seconds for which large results are offered at signed addresses of the object storage. 0: through this server.

    The server then redirects to them, and documents link them, so that the bytes do not pass through it.
    """

    result_expiry_hours: Count = 0
    """Hours after the end of a job for which its results are kept, unless it is pinned. 0: for ever.

    A workspace (`workspaces.result_expiry_hours`) or a process may have its own. Jobs and logs stay.
    """

    upload_expiry_hours: Count = 24
    """Hours after which an uploaded file is removed. 0: never."""

    min_free_mib: Count = 64
    """MiB that the disks of home and storage must have left.

    With less, no job or upload is taken, no job is begun, and `/health` says why: jobs on a full disk would fail. Jobs
    that run go on. 0: until the last byte is taken.
    """


class Token(Section, frozen=True, kw_only=True):
    """One bearer token: who it names and where it opens. The token itself is kept nowhere."""

    actor: str
    """Name of who holds the token; jobs belong to it."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", extra=_SECRET)]
    """SHA-256 of the token, 64 lower-case hexadecimal digits: ``printf %s TOKEN | sha256sum``."""

    workspaces: tuple[str, ...] = ()
    """Workspaces that it opens. Empty: all."""

    role: Literal["user", "operator"] = "user"
    """``operator``: sees and dismisses the jobs of all actors; if it opens all workspaces, it holds the queue too."""


class Security(Section, frozen=True, kw_only=True):
    """Who may enter, and what a job may fetch."""

    tokens: Annotated[tuple[Token, ...], Meta(extra=_SECRET)] = ()
    """Bearer tokens, each with `actor`, `sha256`, `workspaces` and `role`.

    None: everyone is the same anonymous actor, and an operator.
    """

    allow_private_addresses: bool = False
    """Whether inputs may refer to loopback and private addresses.

    Not by default: a reference would make the server read what only the server can reach.
    """

    allowed_folders: PathTexts = ()
    """Folders below which inputs may refer to files of this machine by ``file:``. None by default."""

    reference_max_mib: Positive = 2048
    """MiB that one referenced input may have; fetching stops there."""

    reference_timeout_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] = 60.0
    """Seconds without a byte after which fetching a reference is given up."""

    reference_total_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] = 900.0
    """Seconds in all after which fetching a reference is given up, even if bytes still arrive."""

    secret_key: Annotated[str, Meta(extra=_SECRET, pattern="^(.{32,})?$")] = ""
    """What secrets of users are sealed with in the database, at least 32 characters: ``openssl rand -base64 32``.

    Empty: a key in the file ``secret.key`` of the home folder, made at the first start and readable by its owner alone.
    Servers that share a database need the same one here.
    """


class SigningSecret(Section, frozen=True, kw_only=True):
    """One secret that signs notifications, known to the receiver too."""

    secret: Annotated[str, Meta(pattern=_SIGNING_SECRET, extra=_SECRET)]
    """24 to 64 bytes as base64, as Standard Webhooks spells it: ``openssl rand -base64 32``."""

    workspaces: tuple[str, ...] = ()
    """Workspaces whose jobs it signs for. Empty: all."""

    actors: tuple[str, ...] = ()
    """Actors whose jobs it signs for. Empty: all."""


class Notifications(Section, frozen=True, kw_only=True):
    """How subscribers of jobs are told."""

    secrets: Annotated[tuple[SigningSecret, ...], Meta(extra=_SECRET)] = ()
    """Secrets that sign, each with `secret`, `workspaces` and `actors`; each that fits signs, so old and new overlap.

    They sign what no secret of the job itself or of a notification profile signs. None: that is sent unsigned.
    """

    retries_s: tuple[Seconds, ...] = (10.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0)
    """Seconds before the second and each later attempt, give or take a quarter; then a notification is undelivered."""

    timeout_s: Annotated[float, Meta(gt=0, le=_LONGEST_S)] = 10.0
    """Seconds that a receiver may take to answer, looking up its name included."""

    progress_s: Seconds = 60.0
    """Seconds between two reports on a running job whose progress has grown by less than 10 % meanwhile."""

    allow_http: bool = False
    """Whether addresses of receivers may begin with ``http:``.

    Not by default: on the way anybody reads results and passwords. Where `security.allow_private_addresses` is set they
    may anyway, since that is how one works on one's own machine.
    """

    allowed_hosts: tuple[str, ...] = ()
    """Receivers that are told wherever they are, and by http too: ``host`` for any port, or ``host:port``."""


class Workspaces(Section, frozen=True, kw_only=True):
    """Rooms in which jobs and files do not see each other."""

    names: tuple[str, ...] = ("default",)
    """Names of the workspaces; each is a segment of a path: ``/{workspace}/ogc-api/...``."""

    default: str = "default"
    """The workspace that is served at the root too; one of `names`."""

    result_expiry_hours: dict[str, Count] = {}
    """Hours for which results are kept in single workspaces; the others go by `storage.result_expiry_hours`."""


class ProcessSettings(Section, frozen=True, kw_only=True):
    """How one process is run."""

    python: PathText = ""
    """Path of the Python that runs it, with packages of its own. Empty: the one of the server."""

    max_running: Count = 0
    """Jobs of it that run at the same time, on all machines together. 0: as `jobs.max_per_process` says."""

    requires: str | None = None
    """What a machine must have to run it, as `jobs.labels` has it, whatever the process itself says; empty: nothing."""

    result_expiry_hours: Count | None = None
    """Hours for which its results are kept, 0 for ever. Unset: as the workspace says, or `storage`."""

    processor: dict[str, Any] | None = None
    """Definition of a pygeoapi processor, as in its configuration: ``name`` and what the processor reads besides."""

    time_limit_s: Seconds | None = None
    """Seconds that a job of it may run, whatever the process itself and ``jobs.time_limit_s`` say. 0: no limit."""

    memory_limit_mib: Count | None = None
    """MiB that a job of it and all its children may hold; 0: no limit."""

    disk_limit_mib: Count | None = None
    """MiB that the folder of a job of it may hold, temporary files included; 0: no limit."""

    log_limit_mib: Count | None = None
    """MiB that a job of it may print; 0: no limit."""


class Processes(Section, frozen=True, kw_only=True):
    """Which processes are offered."""

    plugins: PathTexts = ()
    """Files (``name.py``) and importable modules whose processes are offered, besides installed plug-ins."""

    disabled: tuple[str, ...] = ()
    """Identifiers of processes that are not offered, built-in ones too."""

    each: dict[str, ProcessSettings] = {}
    """Settings of single processes by identifier; a file writes them as ``[processes.NAME]``."""


class Limits(Section, frozen=True, kw_only=True):
    """How large lists and documents may be."""

    page_size: Positive = 10
    """Entries of a page of a list when the request names no ``limit``; 10 is the standard's own default."""

    page_max: Positive = 1000
    """Entries of a page at most; a larger ``limit`` is cut to this."""

    json_depth: Annotated[int, Meta(ge=8, le=500)] = 64
    """Levels of nesting in a JSON body; deeper ones are refused before they cost anything."""


class Telemetry(Section, frozen=True, kw_only=True):
    """Who may watch the service, and where its traces go."""

    metrics_readers: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Who may read `/metrics`: addresses or networks (CIDR), and ``actor:NAME`` for holders of a token.

    This machine by default: names of processes and how busy they are is nobody else's business. With
    `server.public_url` a proxy stands before the server, and then this machine may be anybody: name an actor, or the
    proxy among `server.trusted_proxies`, whose X-Forwarded-For is believed. Empty: nobody.
    """

    otlp_endpoint: str = ""
    """Address of an OpenTelemetry collector (OTLP over HTTP), e.g. ``http://localhost:4318``, to which traces go.

    Empty: where the standard variables say (``OTEL_EXPORTER_OTLP_ENDPOINT``), else there are no traces, at no cost.
    """


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, complete and checked."""

    server: Server = Server()
    database: Database = Database()
    jobs: Jobs = Jobs()
    storage: Storage = Storage()
    security: Security = Security()
    notifications: Notifications = Notifications()
    workspaces: Workspaces = Workspaces()
    processes: Processes = Processes()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    worker: Worker = Worker()

    def __post_init__(self) -> None:
        _check_addresses(self)
        _check_workspaces(self)
        _check_storage(self.storage)
        _check_executor(self.jobs)
        if self.limits.page_size > self.limits.page_max:
            raise InvalidSetting("limits.page_size", f"must not be above limits.page_max ({self.limits.page_max})")

    @property
    def home(self) -> Path:
        """The home folder, absolute."""
        return Path(self.storage.home).expanduser().absolute()


def _check_addresses(settings: Settings) -> None:
    url = settings.server.public_url
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment):
        raise InvalidSetting("server.public_url", f"{url!r} is no absolute http or https address without a query")
    for proxy in settings.server.trusted_proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise InvalidSetting("server.trusted_proxies", f"{proxy!r} is no IP address or network") from None
    for reader in settings.telemetry.metrics_readers:
        if reader.removeprefix("actor:") != reader:
            continue
        try:
            ipaddress.ip_network(reader, strict=False)
        except ValueError:
            remedy = f"{reader!r} is neither an IP address or network nor actor:NAME"
            raise InvalidSetting("telemetry.metrics_readers", remedy) from None
    endpoint = urlsplit(settings.telemetry.otlp_endpoint)
    if settings.telemetry.otlp_endpoint and (endpoint.scheme not in {"http", "https"} or not endpoint.netloc):
        raise InvalidSetting("telemetry.otlp_endpoint", f"{settings.telemetry.otlp_endpoint!r} is no http(s) address")
    scheme = urlsplit(settings.database.url).scheme
    if settings.jobs.workers == 0 and scheme != "postgresql":
        raise InvalidSetting("jobs.workers", "0 leaves nobody to run jobs; use 1 or more, or a PostgreSQL database.url")
    if settings.database.url and scheme not in {"sqlite", "postgresql"}:
        raise InvalidSetting("database.url", f"scheme {scheme!r} is not known; use postgresql:// or sqlite:///")


def _check_executor(jobs: Jobs) -> None:
    address = jobs.dask_scheduler
    if address and jobs.executor != "dask":
        raise InvalidSetting("jobs.dask_scheduler", 'needs jobs.executor = "dask": without, jobs run on this machine')
    parts = urlsplit(address)
    if address and (parts.scheme not in {"tcp", "tls"} or not _has_port(parts) or parts.path or parts.query):
        raise InvalidSetting(
            "jobs.dask_scheduler", f"{address!r} is no address like tcp://host:8786 or tls://host:8786"
        )


def _has_port(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname and parts.port)
    except ValueError:
        return False


def _check_storage(storage: Storage) -> None:
    parts = urlsplit(storage.url)
    if storage.url and (parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment):
        raise InvalidSetting("storage.url", f"{storage.url!r} is no address of a bucket like s3://bucket/prefix")
    endpoint = urlsplit(storage.endpoint)
    if storage.endpoint and (endpoint.scheme not in {"http", "https"} or not endpoint.netloc):
        raise InvalidSetting("storage.endpoint", f"{storage.endpoint!r} is no absolute http or https address")
    if bool(storage.access_key_id) != bool(storage.secret_access_key):
        missing = "secret_access_key" if storage.access_key_id else "access_key_id"
        raise InvalidSetting(f"storage.{missing}", "is needed too: a key has a name and a secret")
    if storage.signed_urls and not storage.url:
        raise InvalidSetting("storage.signed_urls", "needs storage.url: files in a folder have no signed addresses")


def _check_workspaces(settings: Settings) -> None:
    names = settings.workspaces.names
    for name in names:
        if name in RESERVED_WORKSPACES:
            raise InvalidSetting("workspaces.names", f"{name!r} is reserved for an address of the service")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
            raise InvalidSetting("workspaces.names", f"{name!r} must be letters, digits, '_', '.' or '-', 63 at most")
    if strange := [name for name in settings.workspaces.result_expiry_hours if name not in names]:
        raise InvalidSetting("workspaces.result_expiry_hours", f"{strange[0]!r} is not among workspaces.names")
    if settings.workspaces.default not in names:
        raise InvalidSetting(
            "workspaces.default", f"{settings.workspaces.default!r} is not among workspaces.names ({', '.join(names)})"
        )
    for token in settings.security.tokens:
        if strange := [name for name in token.workspaces if name not in names]:
            raise InvalidSetting("security.tokens", f"{token.actor!r} names workspace {strange[0]!r}, which is none")
    for signing in settings.notifications.secrets:
        if strange := [name for name in signing.workspaces if name not in names]:
            raise InvalidSetting("notifications.secrets", f"one names workspace {strange[0]!r}, which is none")


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """Settings as they took effect, with where each came from."""

    settings: Settings

    sources: Mapping[str, str]
    """Dotted name of a setting → the file, variable or option that set it; a name that is absent has its default."""

    warnings: tuple[str, ...] = ()
    """What was read but does not mean here what its writer may expect."""

    def source(self, name: str) -> str:
        """Return where the value of a setting comes from."""
        return self.sources.get(name, "default")


@dataclass(slots=True)
class _Layers:
    """Values by dotted name, each layer laid over the ones before."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def lay(self, name: str, value: Any, source: str) -> None:
        self.values[name] = value
        self.sources[name] = source


def read_settings(
    config: Path | None = None, *, environ: Mapping[str, str], options: Mapping[str, tuple[Any, str]] | None = None
) -> Effective:
    """
    Return the settings from defaults, a file, variables and the command line, later ones winning.

    Parameters
    ----------
    config : Path, optional
        A TOML file, or a pygeoapi configuration if its name ends in ``.yml`` or ``.yaml``.
    environ : Mapping
        Variables; those named ``GRATICULE_SECTION__NAME`` are read, others that begin so are refused.
    options : Mapping, optional
        Dotted name → value and the name of the option that gave it, e.g. ``{"server.port": (0, "--port")}``.

    Returns
    -------
    Effective
        Settings, sources and warnings.

    Raises
    ------
    InvalidSetting
        If a name is not known or a value does not fit; the message names it and where it stands.
    """
    layers = _Layers()
    warnings: tuple[str, ...] = ()
    if config is not None:
        tables, warnings = _read_file(config, environ)
        is_toml = config.suffix not in {".yml", ".yaml"}
        for name, value in _leaves_of(tables, str(config)):
            layers.lay(name, _anchored(name, value, config.absolute().parent) if is_toml else value, str(config))
    for name, value, variable in _variables(environ):
        layers.lay(name, value, variable)
    for name, (value, option) in (options or {}).items():
        layers.lay(name, value, option)
    return Effective(settings=_build(layers), sources=layers.sources, warnings=warnings)


def iter_settings(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield every setting by its dotted name, with secrets hidden."""
    for section in Settings.__struct_fields__:
        values = getattr(settings, section)
        for name in values.__struct_fields__:
            dotted = f"{section}.{name}"
            yield dotted, _hidden(dotted, getattr(values, name))


def setting_names() -> list[str]:
    """Return the dotted name of every setting."""
    return list(_TYPES)


def default_of(name: str) -> Any:
    """Return the default of a setting."""
    section, _, key = name.partition(".")
    return getattr(getattr(Settings(), section), key)


def _types() -> dict[str, Any]:
    """Return the type of every setting by its dotted name."""
    sections = get_type_hints(Settings, include_extras=True)
    return {
        f"{section}.{name}": hint
        for section, struct in sections.items()
        for name, hint in get_type_hints(struct, include_extras=True).items()
    }


_TYPES = _types()


def _extra(hint: Any) -> Mapping[str, Any]:
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.extra for meta in metas if meta.extra), {})


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _hidden(name: str, value: Any) -> Any:
    if name == "security.tokens":
        return tuple(msgspec.structs.replace(token, sha256="********") for token in value)
    if name == "notifications.secrets":
        return tuple(msgspec.structs.replace(signing, secret="********") for signing in value)  # noqa: S106 - hidden
    if name == "security.secret_key":
        return value and "********"
    if not _extra(_TYPES[name]).get("secret") or not value:
        return msgspec.to_builtins(value) if name == "processes.each" else value
    if not _extra(_TYPES[name]).get("url"):
        return "********"
    parts = urlsplit(value)
    if parts.password is None:
        return value
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:********@{place}"))


def _read_file(config: Path, environ: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting("--config", f"{str(config)!r} cannot be read: {error}") from error
    if config.suffix in {".yml", ".yaml"}:
        return read_pygeoapi(text, environ)
    try:
        return tomllib.loads(text), ()
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting("--config", f"{str(config)!r} is no TOML: {error}") from error


def _leaves_of(tables: Mapping[str, Any], source: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a file by dotted name; single processes become ``processes.each``."""
    for section, values in tables.items():
        if section not in Settings.__struct_fields__:
            raise _unknown(section, list(Settings.__struct_fields__), source)
        if not isinstance(values, Mapping):
            raise InvalidSetting(section, f"is a section and needs a table of settings ({source})")
        each = {name: value for name, value in values.items() if section == "processes" and isinstance(value, Mapping)}
        if each:
            yield "processes.each", {**each.pop("each", {}), **each}
        for name, value in values.items():
            if name not in each and name != "each":
                yield _known(f"{section}.{name}", source), value


def _known(name: str, source: str) -> str:
    if name not in _TYPES:
        raise _unknown(name, list(_TYPES), source)
    return name


def _unknown(name: str, known: list[str], source: str) -> InvalidSetting:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
    return InvalidSetting(name, f"there is no such setting; {remedy} ({source})")


def _anchored(name: str, value: Any, folder: Path) -> Any:
    """Return `value` with relative paths starting at `folder`; a plug-in is a path only if it ends in ``.py``."""
    if name == "processes.each" and isinstance(value, Mapping):
        return {process: _anchored_python(table, folder) for process, table in value.items()}
    if not _extra(_TYPES[name]).get("path"):
        return value
    if isinstance(value, list):
        return (
            [_anchored_path(item, folder) for item in value]
            if name != "processes.plugins"
            else [_anchored_path(item, folder) if _is_file(item) else item for item in value]
        )
    return _anchored_path(value, folder)


def _anchored_python(table: Any, folder: Path) -> Any:
    if isinstance(table, Mapping) and "/" in str(table.get("python", "")):
        return {**table, "python": _anchored_path(table["python"], folder)}
    return table


def _anchored_path(value: Any, folder: Path) -> Any:
    return str(folder / Path(value).expanduser()) if isinstance(value, str) and value else value


def _is_file(plugin: Any) -> bool:
    return isinstance(plugin, str) and plugin.partition(":")[0].endswith(".py")


def variable_of(name: str) -> str:
    """Return the variable of a setting: ``jobs.workers`` is ``GRATICULE_JOBS__WORKERS``."""
    return PREFIX + name.upper().replace(".", "__")


_PROCESS_VARIABLE = re.compile(
    PREFIX + "PROCESSES__(.+)__(PYTHON|TIME_LIMIT_S|MEMORY_LIMIT_MIB|DISK_LIMIT_MIB|LOG_LIMIT_MIB)"
)


def _number(text: str) -> float | str:
    """Return the number that a text is; what is none is refused with the setting's name when it is converted."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Yield dotted name, value and variable of every setting in `environ`."""
    names = {variable_of(name): name for name in _TYPES}
    each: dict[str, dict[str, Any]] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(_TEST_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        if variable in names:
            yield names[variable], _from_text(names[variable], text, variable), variable
        elif match := _PROCESS_VARIABLE.fullmatch(variable):
            name = match[1].lower().replace("_", "-") if match[1].isupper() else match[1]
            each.setdefault(name, {})[match[2].lower()] = text if match[2] == "PYTHON" else _number(text)
            yield f"processes.each.{name}", each[name], variable
        else:
            raise _unknown(variable, [*names, *CLIENT_VARIABLES], "environment")


def _from_text(name: str, text: str, variable: str) -> Any:
    """Return the text of a variable as what its setting needs; lists come as JSON or parted by commas."""
    kind = _plain(_TYPES[name])
    if get_origin(kind) not in {tuple, dict}:
        return _Text(text.strip()) if kind is not str else text
    if text.lstrip().startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise InvalidSetting(name, f"{error} ({variable})") from error
    return [_Text(item.strip()) for item in text.split(",") if item.strip()]


class _Text(str):
    """A value that came as text, so that ``8080`` may be a number and ``yes`` a truth value."""

    __slots__ = ()


_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _build(layers: _Layers) -> Settings:
    sections: dict[str, dict[str, Any]] = {section: {} for section in Settings.__struct_fields__}
    each: dict[str, Any] = {}
    for name, value in layers.values.items():
        if name.startswith("processes.each."):
            process = name.removeprefix("processes.each.")
            each[process] = {**each.get(process, {}), **value}
        elif name == "processes.each":
            each = {**value, **each} if isinstance(value, Mapping) else value
        else:
            section, _, key = name.partition(".")
            sections[section][key] = _converted(name, value, layers.sources[name])
    if each:
        source = next(source for name, source in layers.sources.items() if name.startswith("processes.each"))
        sections["processes"]["each"] = _converted("processes.each", each, source)
    hints = get_type_hints(Settings)
    return Settings(**{section: hints[section](**values) for section, values in sections.items()})


def _converted(name: str, value: Any, source: str) -> Any:
    """Return `value` as the type of its setting, or say which setting it does not fit."""
    hint = _TYPES[name]
    kind = _plain(hint)
    loose = isinstance(value, _Text) or (isinstance(value, list) and any(isinstance(item, _Text) for item in value))
    if isinstance(value, _Text) and kind is bool:
        value = _TRUTH.get(value.lower(), value)
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise InvalidSetting(name, f"{str(value)!r} is not known; use {' or '.join(get_args(kind))} ({source})")
    _check_members(name, value, source)
    try:
        return msgspec.convert(value, hint, strict=not loose)
    except msgspec.ValidationError as error:
        shown = "" if _extra(hint).get("secret") else f"{_shown(value)} does not fit: "
        raise InvalidSetting(name, f"{shown}{_sentence(str(error))} ({source})") from error


_TABLES: dict[str, type[Section]] = {"security.tokens": Token, "notifications.secrets": SigningSecret}
"""Settings that are lists of tables."""


def _check_members(name: str, value: Any, source: str) -> None:
    """Refuse what the table of a process, a token or a secret has that none of them knows."""
    tables: list[tuple[str, Any, type[Section]]]
    if name == "processes.each" and isinstance(value, Mapping):
        tables = [(f"processes.{process}", table, ProcessSettings) for process, table in value.items()]
    elif name in _TABLES and isinstance(value, list):
        tables = [(name, table, _TABLES[name]) for table in value]
    else:
        return
    for place, table, struct in tables:
        known = [f"{place}.{member}" for member in struct.__struct_fields__]
        for member in table if isinstance(table, Mapping) else ():
            if f"{place}.{member}" not in known:
                raise _unknown(f"{place}.{member}", known, source)


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, _Text) else value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _sentence(reason: str) -> str:
    return reason[:1].lower() + reason[1:]
