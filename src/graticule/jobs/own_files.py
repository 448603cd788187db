"""What the references of a request lead to, where the service itself keeps it: uploads, samples, results of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from graticule.errors import Fault
from graticule.jobs.job import Job, Source
from graticule.jobs.results import ResultStore
from graticule.ogc.processes import Execute
from graticule.processes.inputs import OwnResult, ReferencePolicy

RESULT = re.compile(r"(?P<job>[^/?#]+)/results(?:/(?P<output>[^/?#]+)(?:/(?P<index>[0-9]{1,9}))?)?/?")
"""What follows ``/jobs/`` in the address of a result."""


_LOOPBACK = re.compile(r"(?P<scheme>https?://)(?:localhost|127\.0\.0\.1|\[::1\])(?P<port>(?::[0-9]+)?)")
"""An address of this machine as it is seen from itself, in one of three spellings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFiles:
    """What the service itself keeps of what the references of a request lead to."""

    places: Mapping[str, Path | str] = field(default_factory=dict)
    """Where uploads and samples are read, by the references to them: a path of this machine, or a signed address."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Results of jobs, by the references to them."""
    faults: Sequence[Fault] = ()
    """One for each reference to what is not there."""

    def admitted(self, policy: ReferencePolicy, workspace: str, store: ResultStore) -> ReferencePolicy:
        """Return a policy that lets a job process read all this."""
        if not self.places and not self.sources:
            return policy
        local = {href: str(place) for href, place in self.places.items() if isinstance(place, Path)}
        signed = {href: place for href, place in self.places.items() if isinstance(place, str)}
        results = {}
        for href, source in self.sources.items():
            place = store.place_of(workspace, source) if source.value.file else ""
            if isinstance(place, str) and place:
                signed[href] = place
            else:
                results[href] = OwnResult(
                    media_type=source.value.media_type, path=str(place), content=source.value.content
                )
        return msgspec.structs.replace(policy, local_files=local, signed_files=signed, own_results=results)


class NoSource(Exception):
    """An address of the service leads to no result that may be an input; the message says why."""


def own_addresses(base: str, workspace: str, *, at_root: bool) -> tuple[str, ...]:
    """Return the addresses under which a workspace is reached, and none under which another one is.

    Parameters
    ----------
    base : str
        The one that a request came to.
    workspace : str
        Its name.
    at_root : bool
        Whether it is the one that is served without its name, too.
    """
    long = f"/{workspace}/ogc-api"
    root = base.removesuffix(long)
    roots = ["", root]
    if (loopback := _LOOPBACK.fullmatch(root)) is not None:
        roots += [f"{loopback['scheme']}{host}{loopback['port']}" for host in ("localhost", "127.0.0.1", "[::1]")]
    return ("", *(f"{one}{end}" for one in roots for end in ((long, "") if at_root else (long,))))


def own_references(execute: Execute, addresses: Sequence[str], kind: str) -> list[tuple[str, str, str]]:
    """Return pointer and href of each reference to what the service keeps, and what follows its kind in the address."""
    prefixes = dict.fromkeys(f"{address}/{kind}/" for address in addresses)
    return [
        (pointer, href, href.removeprefix(prefix))
        for pointer, href in _hrefs(execute.inputs, "/inputs")
        for prefix in prefixes
        if href.startswith(prefix)
    ]


def missing_file(href: str, *, begun: bool) -> str:
    """Return what to say of a reference to a file that is not there, or of which only a part is."""
    if begun:
        return f"the file {href!r} is not complete yet; send the rest of it first (HEAD tells how much is there)"
    if "/files/samples/" in href:
        return f"there is no sample {href!r} (a new home needs a moment to make them); GET /files lists what there is"
    return f"no file {href!r} is kept here (files expire); upload it again"


def source_of(job: Job, named: re.Match[str]) -> Source:
    """Return the result of a job that an address names; raises NoSource with the reason why there is none."""
    name, index = named["output"], named["index"]
    if job.status != "successful":
        raise NoSource(f"job {job.id} is {job.status}; refer to its results when it is successful")
    if job.keeping in ("expiring", "expired"):
        raise NoSource(f"the time of the results of job {job.id} was up, and they were removed; run it again")
    outputs = job.outputs()
    output = outputs.get(unquote(name)) if name else None
    known = ", ".join(outputs) or "none"
    if output is None:
        raise NoSource(f"name one output of job {job.id}, as in …/results/NAME; it has: {known}")
    if output.many and index is None:
        raise NoSource(f"output {unquote(name)!r} has {len(output.values)} values; name one, as in …/{name}/0")
    if int(index or 0) >= len(output.values):
        raise NoSource(f"output {unquote(name)!r} has {len(output.values)} values; they are counted from 0")
    value = output.values[int(index or 0)]
    if value.href is not None:
        raise NoSource(f"this result lies elsewhere; refer to {value.href}")
    return Source(job=job.id, token=job.token, value=value)


def _hrefs(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        href = value.get("href")
        if isinstance(href, str):
            yield f"{pointer}/href", href
            return
        for key, item in value.items():
            yield from _hrefs(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (Mapping, list)):
                yield from _hrefs(item, f"{pointer}/{index}")
