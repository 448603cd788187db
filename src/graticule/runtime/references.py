"""What references in inputs may point to, as the settings say."""

from __future__ import annotations

from graticule.processes.inputs import ReferencePolicy
from graticule.settings import Settings


def reference_policy(settings: Settings) -> ReferencePolicy:
    """Return what the settings allow; the same for a server and for a process that runs without one."""
    security = settings.security
    return ReferencePolicy(
        allow_private_addresses=security.allow_private_addresses,
        allowed_folders=tuple(security.allowed_folders),
        max_bytes=security.reference_max_mib << 20,
        timeout_s=security.reference_total_s,
        idle_timeout_s=security.reference_timeout_s,
    )
