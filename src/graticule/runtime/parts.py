"""Build all parts from the settings, once."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from graticule.data.post import ReceiverPolicy, post
from graticule.data.storage import Kept, Storage, read_all
from graticule.data.storages.local import LocalStorage
from graticule.data.uploads import Uploads, renew_uploads
from graticule.db.sealing import Seal, key_of_home
from graticule.errors import (
    ContentLost,
    GraticuleError,
    HomeInUse,
    InvalidSetting,
    LedgerUnavailable,
    NoSuchWorkspace,
    StorageUnavailable,
    Unauthenticated,
)
from graticule.jobs.admission import Admission
from graticule.jobs.agent import Agent, AgentRules
from graticule.jobs.callbacks import Callbacks, Pace, Write
from graticule.jobs.cgroups import find_groups
from graticule.jobs.elsewhere import Elsewhere
from graticule.jobs.executor import Executor
from graticule.jobs.executors.local import LocalExecutor, LocalLimits
from graticule.jobs.feed import Feed
from graticule.jobs.holds import Hold, Holds, parse_scope
from graticule.jobs.job import Job
from graticule.jobs.ledger import Ledger, News
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.leftovers import gather_logs
from graticule.jobs.log import Logs
from graticule.jobs.manager import Engine, JobManager
from graticule.jobs.messages import Described, ProcessRef
from graticule.jobs.own_files import OwnFiles, own_addresses, own_references
from graticule.jobs.queue import QueueRules
from graticule.jobs.results import ResultStore
from graticule.jobs.retention import Retention, RetentionRules
from graticule.jobs.sealing import Sealer
from graticule.jobs.subscriptions import SigningSecret, Subscriptions
from graticule.jobs.trees import kill_strays
from graticule.jobs.watching import Watchers
from graticule.ogc.processes import Execute, Limits, ProcessDescription
from graticule.plugins import find_entry_points
from graticule.processes.catalog import BrokenPlugin, Catalog, Offer, PluginSource
from graticule.processes.inputs import ReferencePolicy
from graticule.processes.limits import first_stated
from graticule.runtime.health import Health, blocking_probe, disk_probe, ledger_probe, storage_probe
from graticule.runtime.logs import EndLog
from graticule.runtime.metrics import Metrics
from graticule.runtime.tracing import Tracing, open_tracing
from graticule.settings import Jobs, ProcessSettings, Settings
from graticule.workspace import Operates, Workspace

log = logging.getLogger("graticule")

_FETCH_S = 3600.0
"""Seconds that fetching one reference may take in all; what is slow but arrives is not given up."""

_STRAYS_S = 2.0
"""Seconds that the fork server of an earlier server has to end what runs below it."""

_PRELOAD_S = 5.0
"""Seconds after the first answer until the fork server imports what most job processes want."""
_SAMPLES_WAIT_S = 10
"""Seconds that the samples of a new home wait at most for jobs to end."""

_SWEEP_S = 600
"""Seconds between two sweeps of expired uploads."""

_MARK_S = 2
"""Seconds to wait for the mark of a storage that another server is about to write."""

_LOST_WORKER_S = 24 * 3600
"""Seconds after which a worker that is not heard of is not expected back."""

_STAGING = ".staging"
"""Folder of uploads that are being sent, in that of the storage; no workspace has such a name."""
_STORAGE_MARK = ".graticule"
"""Key of what tells one storage from another."""
_PROBES = ".probes"
"""What the keys of files begin with by which storage is tried."""

_execute = msgspec.json.Decoder(Execute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who sent a request, and into which workspace."""

    workspace: str
    actor: str
    operates: Operates = "nothing"


@dataclass(kw_only=True)
class Parts:
    """The running service: all parts, built from the settings."""

    settings: Settings
    ledger: Ledger
    executor: Executor
    engine: Engine
    callbacks: Callbacks
    plugins: PluginSource
    catalog: Catalog
    policy: ReferencePolicy
    logs: Logs
    watchers: Watchers
    metrics: Metrics
    health: Health
    tracing: Tracing | None
    samples: Path
    storage: Storage
    retention: Retention
    lock: HomeLock
    _uploads: dict[str, Uploads] = field(default_factory=dict)
    _workspaces: dict[Visitor, Workspace] = field(default_factory=dict)
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    def visitor(self, workspace: str, authorization: str) -> Visitor:
        """Return who sends a request with this ``Authorization`` header into a workspace.

        Raises
        ------
        NoSuchWorkspace
            If there is no such workspace, or not for the token's actor.
        Unauthenticated
            If tokens are configured and none of them was sent.
        """
        if workspace not in self.settings.workspaces.names:
            raise NoSuchWorkspace(workspace)
        tokens = self.settings.security.tokens
        if not tokens:
            return Visitor(workspace=workspace, actor="anonymous", operates="service")
        scheme, _, secret = authorization.partition(" ")
        digest = hashlib.sha256(secret.strip().encode()).hexdigest()
        for token in tokens:
            if scheme.lower() == "bearer" and hmac.compare_digest(token.sha256, digest):
                if token.workspaces and workspace not in token.workspaces:
                    raise NoSuchWorkspace(workspace)
                operates: Operates = "workspace" if token.workspaces else "service"
                return Visitor(
                    workspace=workspace,
                    actor=token.actor,
                    operates=operates if token.role == "operator" else "nothing",
                )
        raise Unauthenticated

    def workspace(self, visitor: Visitor) -> Workspace:
        """Return what this visitor works with."""
        bundle = self._workspaces.get(visitor)
        if bundle is None:
            bundle = self._bundle(visitor)
            if len(self._workspaces) > 1000:
                self._workspaces.clear()
            self._workspaces[visitor] = bundle
        return bundle

    def uploads(self, workspace: str) -> Uploads:
        """Return the files of a workspace."""
        if workspace not in self._uploads:
            staging = storage_folder(self.settings) / _STAGING / workspace
            self._uploads[workspace] = Uploads(
                self.storage, f"{workspace}/uploads", staging=staging, samples=self.samples
            )
        return self._uploads[workspace]

    def _bundle(self, visitor: Visitor) -> Workspace:
        files = self.uploads(visitor.workspace)
        jobs = JobManager(
            workspace=visitor.workspace,
            at_root=visitor.workspace == self.settings.workspaces.default,
            actor=visitor.actor,
            private=bool(self.settings.security.tokens),
            operates=visitor.operates != "nothing",
            catalog=self.catalog,
            engine=self.engine,
            policy=self.policy,
            uploads=files,
        )
        return Workspace(
            id=visitor.workspace,
            actor=visitor.actor,
            operates=visitor.operates,
            processes=self.catalog,
            jobs=jobs,
            files=files,
        )

    def after_start(self, write: Write) -> None:
        """Do what can wait until the first answer: warm the fork server, make the samples, take up old jobs.

        Parameters
        ----------
        write : callable
            Writes what subscribers are sent about a job.
        """
        self.callbacks.start(write)
        self._in_background(self._sweep())
        self.begin_work()

    def begin_work(self) -> None:
        """Take up jobs that wait."""
        # Not at once: whoever waited for the first answer mostly wants something now, and this takes half a second.
        if isinstance(self.executor, LocalExecutor):
            asyncio.get_running_loop().call_later(_PRELOAD_S, self.executor.preload)
        self._in_background(self.metrics.watch_loop())
        if self.ledger.shared:
            self._in_background(self._keep_obeying())
        self.engine.agent.start()
        if not self.samples.is_dir():
            self._in_background(_make_samples(self.samples, self.executor))

    def hear(self, news: News) -> None:
        """Hear what another process has changed in the ledger."""
        if news.kind != "advanced":
            self.engine.agent.hear(news)
        if news.kind in ("held", "missed"):
            self._in_background(self._obey())
        if news.kind not in ("waiting", "held"):
            self.engine.elsewhere.hear(news)
        if news.kind in ("ended", "missed"):
            self.callbacks.look()

    async def hold(self, hold: Hold) -> None:
        """Hold something back."""
        await self.ledger.hold(hold)
        await self.obey()

    async def release(self, scope: str) -> None:
        """Hold something back no longer."""
        await self.ledger.release(scope)
        await self.obey()

    async def begin_to_obey(self) -> None:
        """Do from the start what operators want, and forget what they wanted of workers that are no more."""
        await self.obey()
        since = self.ledger.clock() - _LOST_WORKER_S * 1_000_000
        living = {agent.id for agent in await self.ledger.agents(since=since)}
        for kind, name in [parse_scope(hold.scope) for hold in self.engine.holds]:
            if kind == "worker" and name not in living:
                await self.release(f"worker:{name}")

    async def obey(self) -> None:
        """Do from now on what operators want."""
        agent, holds = self.engine.agent, self.engine.holds
        await holds.read()
        before = agent.hold
        agent.obey(holds)
        if self.ledger.shared and agent.hold != before:
            await agent.report()

    async def _obey(self) -> None:
        try:
            await self.obey()
        except GraticuleError as error:
            log.warning("what operators hold back is not known yet: %s", error)

    async def _keep_obeying(self) -> None:
        """Look now and then at what others hold back: whoever has changed it may have died before saying so."""
        while True:
            await asyncio.sleep(self.engine.agent.rules.lease_s / 4)
            await self._obey()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _sweep(self) -> None:
        """Remove uploads that have expired, now and then; a reader is refused them at once anyway."""
        while True:
            for workspace in self.settings.workspaces.names:
                try:
                    await self.uploads(workspace).sweep()
                except StorageUnavailable as error:
                    log.warning("expired uploads are not removed yet: %s", error)
            try:
                await self.retention.sweep(self.settings.workspaces.names, at=self.ledger.clock())
            except (LedgerUnavailable, StorageUnavailable) as error:
                log.warning("expired results are not removed yet: %s", error)
            await asyncio.sleep(_SWEEP_S)

    async def close(self) -> None:
        """Stop everything, children first, the ledger last."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.engine.agent.close()
        await self.engine.elsewhere.close()
        await self.callbacks.close()
        await self.ledger.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        self.lock.release()


async def build_parts(
    settings: Settings, plugins: Sequence[str] = (), kind: Literal["serve", "worker"] = "serve"
) -> Parts:
    """Return the running parts of a service.

    Parameters
    ----------
    settings : Settings
        What whoever runs the service has set.
    plugins : sequence of str
        Files and modules whose processes are served besides those of the settings.
    kind : str
        ``worker``: nothing is served here, jobs of a shared ledger are run.

    Raises
    ------
    HomeInUse
        If another server runs on the same home folder.
    InvalidSetting
        If something cannot be used as it is set.
    """
    home = settings.home
    tracing = open_tracing(settings.telemetry.otlp_endpoint, os.environ)
    _make_home(home)
    lock = HomeLock.take(home)
    storage = await _open_storage(settings)
    for workspace in settings.workspaces.names:
        await asyncio.to_thread(renew_uploads, storage_folder(settings) / workspace / "uploads")
    ledger = await _open_ledger(settings, leads=kind == "serve")
    scratch = home / "scratch"
    left = await asyncio.to_thread(_clear, scratch)
    executor = await _open_executor(scratch, settings.jobs)
    source = PluginSource()
    disabled = frozenset(settings.processes.disabled)
    catalog = Catalog([source], lambda process_id: process_id not in disabled)
    policy = ReferencePolicy(
        allow_private_addresses=settings.security.allow_private_addresses,
        allowed_folders=tuple(settings.security.allowed_folders),
        max_bytes=settings.security.reference_max_mib << 20,
        timeout_s=_FETCH_S,
        idle_timeout_s=settings.security.reference_timeout_s,
    )
    samples = home / "samples"
    results = ResultStore(storage, signed_s=settings.storage.signed_urls, shared=ledger.shared)
    logs = Logs(executor.logs_of, results.logs_of, shared=ledger.shared)
    feed, watchers = Feed(), Watchers()
    metrics = Metrics(
        {
            "graticule_jobs_waiting": ("Jobs that wait for their turn.", lambda: ledger.waiting),
            "graticule_jobs_running": ("Jobs that run here.", lambda: executor.places - executor.free),
            "graticule_holds": (
                "What operators hold back: queue, workspaces, processes, workers.",
                lambda: len(parts.engine.holds),
            ),
            "graticule_job_places": ("Jobs that may run here at once.", lambda: executor.places),
        }
    )
    subscriptions, callbacks = _notifications(settings, ledger, metrics)
    for listener in (watchers, metrics, tracing, EndLog() if settings.server.access_log else None, callbacks):
        if listener is not None:
            feed.listen(listener)
    feed.watch(watchers.tell)
    parts: Parts

    encoded_policy = msgspec.json.encode(policy)

    def policy_of(job: Job) -> bytes:
        if b'"href"' not in job.request:
            return encoded_policy
        # Whether they are there, and the actor's, was asked when the job was sent.
        execute, uploads = _execute.decode(job.request), parts.uploads(job.workspace)
        addresses = own_addresses(job.base, job.workspace, at_root=job.workspace == settings.workspaces.default)
        places = {
            href: place
            for _, href, path in own_references(execute, addresses, "files")
            if (place := uploads.place_of(path)) is not None
        }
        own = OwnFiles(places=places, sources=job.own_sources())
        return msgspec.json.encode(own.admitted(policy, job.workspace, results))

    rules = _agent_rules(settings, kind)
    agent = Agent(
        ledger, executor, feed, results, lambda _: catalog, policy_of, rules, count_lost=metrics.lost_leases
    )  # fmt: skip
    if ledger.shared:
        agent.sealer = Sealer(logs, results)
    parts = Parts(
        settings=settings,
        ledger=ledger,
        executor=executor,
        engine=Engine(
            ledger=ledger,
            agent=agent,
            feed=feed,
            holds=Holds(ledger),
            elsewhere=Elsewhere(ledger, feed, watchers),
            results=results,
            subscriptions=subscriptions,
            callbacks=callbacks,
            admission=Admission(
                ledger=ledger,
                max_waiting=settings.jobs.max_waiting,
                max_waiting_per_actor=settings.jobs.max_waiting_per_actor,
            ),
        ),
        callbacks=callbacks,
        plugins=source,
        catalog=catalog,
        policy=policy,
        logs=logs,
        watchers=watchers,
        metrics=metrics,
        health=Health(
            {
                "ledger": ledger_probe(ledger),
                "storage": storage_probe(storage),
                "executor": blocking_probe(lambda: executor.trouble),
                "disk": disk_probe({"home": home, "storage": storage_folder(settings)}, settings.storage.min_free_mib),
            }
        ),
        tracing=tracing,
        samples=samples,
        storage=storage,
        retention=Retention(ledger, results, _retention_rules(settings)),
        lock=lock,
    )
    ledger.listen(parts.hear)
    try:
        await _find_processes(settings, plugins, executor, source)
        if ledger.shared:
            await _check_storage(ledger, storage, settings)
            await agent.report()
        else:
            metrics.lost_leases(await agent.take_over(left))
        await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        await parts.begin_to_obey()
    except BaseException:
        await parts.close()
        raise
    return parts


async def _open_ledger(settings: Settings, *, leads: bool) -> Ledger:
    if settings.database.url.startswith("postgresql"):
        from graticule.jobs.ledgers.postgresql import PostgresqlLedger

        return await PostgresqlLedger.open(settings.database.url, may_lead=leads)
    if not leads:
        raise InvalidSetting(
            "database.url", "a worker needs a database that it shares with the servers: postgresql://…"
        )
    return SqliteLedger(database_path(settings))


async def _open_executor(scratch: Path, jobs: Jobs) -> Executor:
    limits = LocalLimits(
        workers=jobs.workers,
        recycle_jobs=jobs.recycle_jobs or sys.maxsize,
        recycle_mib=jobs.recycle_mib or sys.maxsize,
        idle_s=jobs.idle_s,
    )
    if jobs.executor == "local":
        return LocalExecutor(scratch, limits, find_groups())
    from graticule.jobs.executors.dask import DaskExecutor, DaskRules

    rules = DaskRules(scheduler=jobs.dask_scheduler, workers=jobs.workers, lease_s=jobs.lease_s, keeping=limits)
    return await DaskExecutor.open(scratch, rules)


def _retention_rules(settings: Settings) -> RetentionRules:
    each = settings.processes.each
    return RetentionRules(
        hours=settings.storage.result_expiry_hours,
        workspaces=settings.workspaces.result_expiry_hours,
        processes={name: one.result_expiry_hours for name, one in each.items() if one.result_expiry_hours is not None},
    )


def _agent_rules(settings: Settings, kind: str) -> AgentRules:
    jobs = settings.jobs
    return AgentRules(
        lease_s=jobs.lease_s,
        grace_s=jobs.grace_s,
        max_attempts=jobs.max_attempts,
        kind=kind,
        labels=frozenset(jobs.labels),
        queue=QueueRules(
            most=jobs.max_running,
            per_process=jobs.max_per_process,
            processes={name: each.max_running for name, each in settings.processes.each.items() if each.max_running},
            per_workspace=jobs.max_per_workspace,
            per_actor=jobs.max_per_actor,
            ageing_s=jobs.ageing_s,
        ),
    )


def _notifications(settings: Settings, ledger: Ledger, metrics: Metrics) -> tuple[Subscriptions, Callbacks]:
    """Return who knows the secrets of notifications, and who sends them."""
    told, key = settings.notifications, settings.security.secret_key
    receivers = ReceiverPolicy(
        allow_private_addresses=settings.security.allow_private_addresses,
        timeout_s=told.timeout_s,
        allow_http=told.allow_http,
        allowed_hosts=frozenset(host.lower() for host in told.allowed_hosts),
    )
    seal = Seal(key.encode() if key else key_of_home(settings.home / "secret.key"))
    secrets = [SigningSecret(**msgspec.structs.asdict(one)) for one in told.secrets]
    subscriptions = Subscriptions(ledger, seal, receivers, secrets)
    pace = Pace(retries=told.retries_s, progress=told.progress_s)
    callbacks = Callbacks(
        ledger,
        partial(post, policy=receivers),
        pace,
        authorize=subscriptions.headers,
        count=metrics.delivered,
    )
    return subscriptions, callbacks


# --- processes ------------------------------------------------------------------------------------------------------


async def _find_processes(
    settings: Settings, plugins: Sequence[str], executor: Executor, source: PluginSource
) -> None:  # fmt: skip
    """Have every plug-in described in a process of its own: what its import does cannot harm the server."""
    refs = [*builtin_refs(), *configured_refs(settings, plugins)]
    for described in await executor.describe(refs):
        if described.error:
            target = described.ref.id or described.ref.target
            log.error("plug-in %s cannot be loaded: %s", target, described.error)
            source.broken.append(BrokenPlugin(reference=target, reason=described.error))
            source.remove(described.ref.id)  # another process must not answer in its place
        for offer in _offers(described, settings):
            if offer.ref.python and shutil.which(offer.ref.python) is None:
                reason = f"its Python {offer.ref.python} does not exist or cannot be run"
                log.error("process %s is not offered: %s", offer.description.id, reason)
                source.broken.append(BrokenPlugin(reference=offer.description.id, reason=reason))
                source.remove(offer.description.id)
                continue
            source.add(offer)


def builtin_refs() -> list[ProcessRef]:
    """Return where the built-in processes are found."""
    folder = resources.files("graticule.processes.builtin")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".py") and entry.name[0] != "_")
    return [ProcessRef(target=f"graticule.processes.builtin.{name[:-3]}") for name in names]


def configured_refs(settings: Settings, plugins: Sequence[str] = ()) -> list[ProcessRef]:
    """Return where all others are found; what a later one has replaces what an earlier one or a built-in one has."""
    refs = [ProcessRef(target=point.value) for point in find_entry_points("processes")]
    for target in (*settings.processes.plugins, *plugins):
        place, colon, name = target.partition(":")
        if place.endswith(".py"):
            place = str(Path(place).expanduser().absolute())  # job processes have other working folders
        refs.append(ProcessRef(target=f"{place}{colon}{name}"))
    for name, each in settings.processes.each.items():
        if each.processor is not None:
            target = str(each.processor.get("name", ""))
            refs.append(
                ProcessRef(
                    kind="pygeoapi", target=target, id=name, options=json.dumps(each.processor), python=each.python
                )
            )
    return refs


def _offers(described: Described, settings: Settings) -> list[Offer]:
    offers = []
    default = _limits_of(settings.jobs)
    stated_of_each = zip(described.documents, described.fresh, described.limits, described.requires, strict=True)
    for document, fresh, stated, requires in stated_of_each:
        description = msgspec.json.decode(document, type=ProcessDescription)
        each = settings.processes.each.get(description.id)
        python = each.python if each is not None else described.ref.python
        ref = msgspec.structs.replace(described.ref, id=description.id, python=python)
        limits = first_stated(*([_limits_of(each)] if each is not None else []), stated, default)
        offers.append(Offer(description=description, ref=ref, fresh=fresh, limits=limits, requires=requires))
    return offers


def _limits_of(section: Jobs | ProcessSettings) -> Limits:
    return Limits(**{name: getattr(section, name) for name in Limits.__struct_fields__})


# --- the home folder --------------------------------------------------------------------------------------------------


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting("storage.home", f"{home} cannot be made: {error.strerror}") from error


class HomeLock:
    """Says that a running server owns a home folder, and which."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Path) -> HomeLock:
        path = home / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = path.read_text().strip()
            os.close(descriptor)
            raise HomeInUse(str(home), int(owner) if owner.isdigit() else 0) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Let the home go; a killed server's is let go by the system."""
        os.close(self._descriptor)


def database_path(settings: Settings) -> Path:
    """Return where the SQLite database lies."""
    url = settings.database.url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else settings.home / "graticule.db"


def storage_folder(settings: Settings) -> Path:
    """Return where results and uploads lie."""
    return Path(settings.storage.folder).expanduser() if settings.storage.folder else settings.home / "storage"


def _make_storage(settings: Settings) -> Storage:
    chosen = settings.storage
    if not chosen.url:
        return LocalStorage(storage_folder(settings))
    from graticule.data.storages.s3 import Bucket, S3Storage  # its library costs 16 MiB that a folder need not pay

    place = urlsplit(chosen.url)
    return S3Storage(
        Bucket(
            name=place.netloc,
            prefix=place.path.strip("/"),
            endpoint=chosen.endpoint,
            region=chosen.region,
            access_key_id=chosen.access_key_id,
            secret_access_key=chosen.secret_access_key,
        )
    )


async def _open_storage(settings: Settings) -> Storage:
    """Return the storage once a file was written there and read back; a service that cannot is of no use."""
    storage = _make_storage(settings)
    probe = Kept(storage=storage, key=f"{_PROBES}/{uuid.uuid4().hex}")
    content = os.urandom(64)
    try:
        # Uploads gather there, wherever they are kept afterwards.
        await asyncio.to_thread(storage_folder(settings).mkdir, parents=True, exist_ok=True)
        await storage.store_content(content, probe.key)
        if await read_all(probe) != content:
            raise InvalidSetting("storage.url", "a file that was written there is another one when it is read back")
        await storage.remove(probe.key)
    except OSError as error:
        raise InvalidSetting("storage.folder", f"it cannot be made: {error.strerror or error}") from error
    except StorageUnavailable as error:
        raise InvalidSetting(
            error.setting, f"{error.reason}: a small file could not be written and read back"
        ) from error
    except ContentLost as error:
        raise InvalidSetting(
            "storage.url", "a file that was written there is not there when it is read back"
        ) from error
    return storage


def _clear(scratch: Path) -> Path:
    """End job processes of an earlier server that outlived it; return where the logs lie, which are all that stays."""
    if scratch.exists() and (killed := kill_strays(scratch, patience=_STRAYS_S)):
        log.warning("%d processes of jobs of an earlier server still ran; they were ended", killed)
    return gather_logs(scratch)


async def _check_storage(ledger: Ledger, storage: Storage, settings: Settings) -> None:
    """Refuse a storage that is not the one which the other servers and workers of this database use."""
    mark = Kept(storage=storage, key=_STORAGE_MARK)
    mine, proposed = await _read_mark(mark), uuid.uuid4().hex
    theirs = await ledger.mark("storage", mine or proposed)
    if mine is None and theirs == proposed:
        await storage.store_content(theirs.encode(), mark.key)
        return
    for _ in range(_MARK_S):  # whoever was first may be about to write it
        if mine is not None:
            break
        await asyncio.sleep(1)
        mine = await _read_mark(mark)
    if mine != theirs:
        place = settings.storage.url or storage_folder(settings)
        raise InvalidSetting(
            "storage.url" if settings.storage.url else "storage.folder",
            f"{place} is not the storage that the other servers of this database use; name one that all of them reach, "
            "the same for all",
        )


async def _read_mark(mark: Kept) -> str | None:
    try:
        return (await read_all(mark)).decode().strip()
    except ContentLost:
        return None


async def _make_samples(folder: Path, executor: Executor) -> None:
    """Generate the sample data in a process of its own: the server itself never loads raster libraries.

    It takes a second of a processor, so it lets jobs go before, if they come at once and do not go on for long.
    """
    for _ in range(_SAMPLES_WAIT_S):
        await asyncio.sleep(1)
        if executor.free == executor.places:
            break
    unfinished = folder.with_name("samples.unfinished")
    await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
    call = "from graticule.processes.samples import generate_samples; generate_samples(Path(sys.argv[1]))"
    code = f"import sys; from pathlib import Path; sys.path[:] = {sys.path!r}; {call}"
    # In a session of its own, so that Ctrl-C does not reach it, and giving way to whoever asks for something meanwhile.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import os; os.nice(15); {code}", str(unfinished), start_new_session=True
    )
    try:
        if await process.wait() == 0:
            unfinished.rename(folder)
        else:
            log.error("the sample data could not be generated in %s", folder)
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
