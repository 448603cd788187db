"""Build all parts from the settings, once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import shutil
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from graticule.data.post import ReceiverPolicy, post
from graticule.data.storage import Storage
from graticule.data.uploads import Uploads, renew_uploads
from graticule.db.sealing import Seal, key_of_home
from graticule.errors import (
    GraticuleError,
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
from graticule.jobs.log import Logs
from graticule.jobs.manager import Engine, JobManager
from graticule.jobs.own_files import OwnFiles, own_addresses, own_references
from graticule.jobs.queue import QueueRules
from graticule.jobs.results import ResultStore
from graticule.jobs.retention import Retention, RetentionRules
from graticule.jobs.sealing import Sealer
from graticule.jobs.subscriptions import SigningSecret, Subscriptions
from graticule.jobs.watching import Watchers
from graticule.ogc.processes import Execute
from graticule.processes.catalog import Catalog, PluginSource
from graticule.processes.inputs import ReferencePolicy
from graticule.runtime.health import Health, blocking_probe, disk_probe, lack_of_room, ledger_probe, storage_probe
from graticule.runtime.home import HomeLock, clear_scratch, database_path, make_home, make_samples, storage_folder
from graticule.runtime.logs import EndLog
from graticule.runtime.metrics import Metrics
from graticule.runtime.published import find_processes
from graticule.runtime.storing import STAGING, check_shared, open_storage
from graticule.runtime.tracing import Tracing, open_tracing
from graticule.settings import Jobs, Settings
from graticule.workspace import Operates, Workspace

log = logging.getLogger("graticule")

_FETCH_S = 3600.0
"""Seconds that fetching one reference may take in all; what is slow but arrives is not given up."""

_PRELOAD_S = 5.0
"""Seconds after the first answer until the fork server imports what most job processes want."""
_DISKS_S = 1
"""Seconds between two looks at the room on disks."""

_SWEEP_S = 600
"""Seconds between two sweeps of expired uploads."""

_LOST_WORKER_S = 24 * 3600
"""Seconds after which a worker that is not heard of is not expected back."""

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
            staging = storage_folder(self.settings) / STAGING / workspace
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
        self._in_background(self._watch_disks())
        if self.ledger.shared:
            self._in_background(self._keep_obeying())
        self.engine.agent.start()
        if not self.samples.is_dir():
            self._in_background(make_samples(self.samples, self.executor))

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

    async def _watch_disks(self) -> None:
        """Have no job begun while a disk has too little room."""
        storage = self.settings.storage
        folders = {"home": self.settings.home, "storage": storage_folder(self.settings)}
        while True:
            try:
                reason = await asyncio.to_thread(lack_of_room, folders, storage.min_free_mib)
            except OSError as error:
                reason = f"the disk of home or storage cannot be looked at ({error.strerror})"
            self.engine.agent.lack(reason)
            await asyncio.sleep(_DISKS_S)

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
    make_home(home)
    lock = HomeLock.take(home)
    storage = await open_storage(settings)
    for workspace in settings.workspaces.names:
        await asyncio.to_thread(renew_uploads, storage_folder(settings) / workspace / "uploads")
    ledger = await _open_ledger(settings, leads=kind == "serve")
    left = await asyncio.to_thread(clear_scratch, home / "scratch")
    executor = await _open_executor(home / "scratch", settings.jobs)
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
        await find_processes(settings, plugins, executor, source)
        if ledger.shared:
            await check_shared(ledger, storage, settings)
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
        return LocalExecutor(scratch, limits, find_groups(), adopts=True)
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
