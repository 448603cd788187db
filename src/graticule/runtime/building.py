"""Build all parts from the settings, once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import msgspec

from graticule.data.post import ReceiverPolicy, post
from graticule.data.removal import remove_tree
from graticule.data.storage import Storage
from graticule.data.uploads import Uploads, renew_uploads
from graticule.db.sealing import Seal, key_of_home
from graticule.errors import (
    InvalidSetting,
)
from graticule.jobs.admission import Admission
from graticule.jobs.agent import Agent, AgentRules
from graticule.jobs.callbacks import Callbacks, Pace
from graticule.jobs.cgroups import find_groups
from graticule.jobs.elsewhere import Elsewhere
from graticule.jobs.executor import Executor
from graticule.jobs.executors.local import LocalExecutor, LocalLimits
from graticule.jobs.feed import Feed
from graticule.jobs.holds import Holds
from graticule.jobs.job import Job
from graticule.jobs.ledger import Ledger, Room
from graticule.jobs.ledgers.sqlite import SqliteLedger
from graticule.jobs.log import Logs
from graticule.jobs.manager import Engine
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
from graticule.runtime.health import Health, blocking_probe, disk_probe, ledger_probe, storage_probe
from graticule.runtime.home import HomeLock, clear_scratch, database_path, make_home, storage_folder
from graticule.runtime.logs import EndLog
from graticule.runtime.metrics import Metrics
from graticule.runtime.open_files import allow_most
from graticule.runtime.parts import Parts
from graticule.runtime.published import find_processes
from graticule.runtime.references import reference_policy
from graticule.runtime.storing import STAGING, check_shared, open_storage
from graticule.runtime.tracing import open_tracing
from graticule.settings import Jobs, Settings

_execute = msgspec.json.Decoder(Execute)


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
    open_files, before = allow_most()
    tracing = open_tracing(settings.telemetry.otlp_endpoint, os.environ)
    make_home(home)
    lock = HomeLock.take(home)
    # Before anything is written: what killed jobs have left may be what fills the disk.
    left = await asyncio.to_thread(clear_scratch, home / "scratch")
    storage = await open_storage(settings)
    for workspace in settings.workspaces.names:
        await asyncio.to_thread(renew_uploads, storage_folder(settings) / workspace / "uploads")
    ledger = await _open_ledger(settings, leads=kind == "serve")
    executor = await _open_executor(home / "scratch", settings.jobs, open_files=before)
    source = PluginSource()
    disabled = frozenset(settings.processes.disabled)
    catalog = Catalog([source], lambda process_id: process_id not in disabled)
    policy = reference_policy(settings)
    samples, disks = home / "samples", {"home": home, "storage": storage_folder(settings)}
    results = ResultStore(storage, signed_s=settings.storage.signed_urls, shared=ledger.shared)
    logs = Logs(executor.logs_of, results.logs_of, shared=ledger.shared)
    # Each may have a log open beside its connection: half is left for all else.
    feed, watchers, holds = Feed(), Watchers(most=open_files // 4), Holds(ledger)
    metrics = _metrics(ledger, executor, holds)
    subscriptions, callbacks = _notifications(settings, ledger, metrics)
    for listener in (watchers, metrics, tracing, EndLog() if settings.server.access_log else None, callbacks):
        if listener is not None:
            feed.listen(listener)
    feed.watch(watchers.tell)
    uploads = cache(partial(_uploads_of, settings, storage, samples))
    admitted = _Admitted(policy, settings.workspaces.default, uploads, results)
    rules = _agent_rules(settings, kind)
    agent = Agent(
        ledger, executor, feed, results, lambda _: catalog, admitted.by, rules, count_lost=metrics.lost_leases
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
            holds=holds,
            elsewhere=Elsewhere(ledger, feed, watchers),
            results=results,
            subscriptions=subscriptions,
            callbacks=callbacks,
            admission=Admission(ledger=ledger, room=agent.rules.room),
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
                "executor": blocking_probe(lambda: executor.trouble or agent.scarce),
                "disk": disk_probe(disks, settings.storage.min_free_mib),
            }
        ),
        tracing=tracing,
        samples=samples,
        storage=storage,
        disks=disks,
        uploads=uploads,
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
        await asyncio.to_thread(remove_tree, left)
        await parts.begin_to_obey()
    except BaseException:
        await parts.close()
        raise
    return parts


class _Admitted:
    """What the process of a job may read: what the settings allow, and the files of its own service that it names.

    Parameters
    ----------
    policy : ReferencePolicy
        What the settings allow.
    default : str
        The workspace that is served at the root too.
    uploads_of : callable
        Gives the files of a workspace.
    results : ResultStore
        Where the results lie that a job may read.
    """

    def __init__(
        self, policy: ReferencePolicy, default: str, uploads_of: Callable[[str], Uploads], results: ResultStore
    ) -> None:
        self._policy = policy
        self._encoded = msgspec.json.encode(policy)
        self._default = default
        self._uploads_of = uploads_of
        self._results = results

    def by(self, job: Job) -> bytes:
        """Return the policy for a job as its process is told."""
        if b'"href"' not in job.request:
            return self._encoded
        # Whether they are there, and the actor's, was asked when the job was sent.
        execute, uploads = _execute.decode(job.request), self._uploads_of(job.workspace)
        addresses = own_addresses(job.base, job.workspace, at_root=job.workspace == self._default)
        places = {
            href: place
            for _, href, path in own_references(execute, addresses, "files")
            if (place := uploads.place_of(path)) is not None
        }
        own = OwnFiles(places=places, sources=job.own_sources())
        return msgspec.json.encode(own.admitted(self._policy, job.workspace, self._results))


def _metrics(ledger: Ledger, executor: Executor, holds: Holds) -> Metrics:
    async def count_waiting() -> int:
        # Where others take jobs too, a process knows no more than whether it should ask.
        return sum((await ledger.lanes()).values()) if ledger.shared else ledger.waiting

    return Metrics(
        {
            "graticule_jobs_running": ("Jobs that run here.", lambda: executor.places - executor.free),
            "graticule_holds": (
                "What operators hold back: queue, workspaces, processes, workers.",
                lambda: len(holds),
            ),
            "graticule_job_places": ("Jobs that may run here at once.", lambda: executor.places),
        },
        count_waiting,
    )


async def _open_ledger(settings: Settings, *, leads: bool) -> Ledger:
    if settings.database.url.startswith("postgresql"):
        from graticule.jobs.ledgers.postgresql import PostgresqlLedger

        return await PostgresqlLedger.open(settings.database.url, may_lead=leads, lease_s=settings.jobs.lease_s)
    if not leads:
        raise InvalidSetting(
            "database.url", "a worker needs a database that it shares with the servers: postgresql://…"
        )
    return SqliteLedger(database_path(settings))


def _uploads_of(settings: Settings, storage: Storage, samples: Path, workspace: str) -> Uploads:
    staging = storage_folder(settings) / STAGING / workspace
    return Uploads(storage, f"{workspace}/uploads", staging=staging, samples=samples)


async def _open_executor(scratch: Path, jobs: Jobs, *, open_files: int) -> Executor:
    limits = LocalLimits(
        workers=jobs.workers,
        recycle_jobs=jobs.recycle_jobs or sys.maxsize,
        recycle_mib=jobs.recycle_mib or sys.maxsize,
        idle_s=jobs.idle_s,
    )
    if jobs.executor == "local":
        return LocalExecutor(scratch, replace(limits, open_files=open_files), find_groups(), adopts=True)
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
    room = Room(most=jobs.max_waiting, most_per_actor=jobs.max_waiting_per_actor)
    return AgentRules(
        lease_s=jobs.lease_s,
        grace_s=jobs.grace_s,
        max_attempts=jobs.max_attempts,
        kind=kind,
        labels=frozenset(jobs.labels),
        room=room if room.most or room.most_per_actor else None,
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
