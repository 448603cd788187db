"""Which processes a service publishes: its own, installed ones, those that the settings and the command line name."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from graticule.jobs.executor import Executor
from graticule.jobs.messages import Described, ProcessRef
from graticule.ogc.processes import Limits, ProcessDescription
from graticule.plugins import find_entry_points
from graticule.processes.catalog import BrokenPlugin, Offer, PluginSource
from graticule.processes.limits import first_stated
from graticule.settings import Jobs, ProcessSettings, Settings

log = logging.getLogger("graticule")


async def find_processes(
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
    for document, fresh, stated, stated_requires in stated_of_each:
        description = msgspec.json.decode(document, type=ProcessDescription)
        each = settings.processes.each.get(description.id)
        python = each.python if each is not None else described.ref.python
        requires = stated_requires if each is None or each.requires is None else each.requires
        ref = msgspec.structs.replace(described.ref, id=description.id, python=python)
        limits = first_stated(*([_limits_of(each)] if each is not None else []), stated, default)
        offers.append(Offer(description=description, ref=ref, fresh=fresh, limits=limits, requires=requires))
    return offers


def _limits_of(section: Jobs | ProcessSettings) -> Limits:
    return Limits(**{name: getattr(section, name) for name in Limits.__struct_fields__})
