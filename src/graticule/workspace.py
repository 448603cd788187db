"""The one place to stand: everything a request works with, already narrowed to its workspace and actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graticule.data.uploads import Uploads
from graticule.jobs.manager import JobManager
from graticule.processes.catalog import Catalog

Operates = Literal["nothing", "workspace", "service"]
"""What somebody looks after: nothing but their own, all jobs of a workspace, or the whole service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The parts that one actor sees in one workspace. Below this, nobody carries tenant or user around."""

    id: str
    actor: str
    operates: Operates
    processes: Catalog
    jobs: JobManager
    files: Uploads
