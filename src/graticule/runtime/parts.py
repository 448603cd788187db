"""The running service: its parts, and what goes on between them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graticule.data.storage import Storage
from graticule.data.uploads import Uploads
from graticule.errors import (
    GraticuleError,
    LedgerUnavailable,
    NoSuchWorkspace,
    StorageUnavailable,
    Unauthenticated,
)
from graticule.jobs.callbacks import Callbacks, Write
from graticule.jobs.executor import Executor
from graticule.jobs.executors.local import LocalExecutor
from graticule.jobs.holds import Hold, parse_scope
from graticule.jobs.ledger import Ledger, News
from graticule.jobs.log import Logs
from graticule.jobs.manager import Engine, JobManager
from graticule.jobs.retention import Retention
from graticule.jobs.watching import Watchers
from graticule.processes.catalog import Catalog, PluginSource
from graticule.processes.inputs import ReferencePolicy
from graticule.runtime.health import Health, lack_of_room
from graticule.runtime.home import HomeLock, make_samples
from graticule.runtime.metrics import Metrics
from graticule.runtime.tracing import Tracing
from graticule.settings import Settings
from graticule.workspace import Operates, Workspace

log = logging.getLogger("graticule")

_PRELOAD_S = 5.0
"""Seconds after the first answer until the fork server imports what most job processes want."""
_DISKS_S = 1
"""Seconds between two looks at the room on disks."""

_SWEEP_S = 600
"""Seconds between two sweeps of expired uploads."""

_LOST_WORKER_S = 24 * 3600
"""Seconds after which a worker that is not heard of is not expected back."""


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
    disks: Mapping[str, Path]
    """The folders that need room, by what they are."""
    uploads: Callable[[str], Uploads]
    """Gives the files of a workspace."""
    retention: Retention
    lock: HomeLock
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
        self.callbacks.hear(news)

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
        except LedgerUnavailable:  # it says so itself
            log.debug("what operators hold back is not known yet")
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
        while True:
            try:
                reason = await asyncio.to_thread(lack_of_room, self.disks, self.settings.storage.min_free_mib)
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
