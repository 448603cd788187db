"""Tell where the results of a job come from: the provenance of a job that has ended, made from what the ledger kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from graticule.errors import ProvenanceMissing
from graticule.jobs.job import Job, StoredOutput, StoredValue
from graticule.ogc.common import format_time
from graticule.ogc.processes import ProcessDescription
from graticule.ogc.prov import (
    ANY_URI,
    LABEL,
    LOCATION,
    TYPE,
    VALUE,
    WF4EVER,
    WFDESC,
    WFPROV,
    Attribute,
    Element,
    Name,
    Provenance,
    Relation,
    RelationKind,
    Typed,
)  # fmt: skip
from graticule.processes.secrets import MASK, hides

T = TypeVar("T")

OWN = "urn:graticule:prov:"
"""Namespace of what PROV has no word for: status, size, checksum, version."""

MEMBERS = 1000
"""Values of one input or output that become entities of their own; of more, only their number is told."""

_LITERAL = 1000
"""Characters of a literal that stand in the document; a longer one is told by its checksum."""

_DCTERMS = "http://purl.org/dc/terms/"
_ARTIFACT = (TYPE, Name("wfprov", "Artifact"))
_FILE = (TYPE, Name("wf4ever", "File"))
_COLLECTION = (TYPE, Name("prov", "Collection"))
_RUN, _RECORD, _PROCESS = Name("job", "run"), Name("job", "record"), Name("job", "process")
_SERVICE, _WORKER, _ACTOR = Name("job", "service"), Name("job", "worker"), Name("job", "actor")
_NOT_IN_IRIS = re.compile(r"[\x00-\x20<>\"{}|\\^`\x7f]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class _Request(msgspec.Struct):
    """An execute request, its inputs still as they came."""

    inputs: dict[str, msgspec.Raw] = {}


_request = msgspec.json.Decoder(_Request)
_values = msgspec.json.Decoder(list[msgspec.Raw])


def provenance_of(job: Job, base: str, description: ProcessDescription | None) -> Provenance:
    """Return the provenance of a job that has ended, successful or not.

    Parameters
    ----------
    job : Job
        The job.
    base : str
        Address of the service; all names and locations begin with it.
    description : ProcessDescription, optional
        Says which inputs have several values and which are secrets; None: the process is not offered any more.

    Raises
    ------
    ProvenanceMissing
        If the job has not ended.

    References
    ----------
    OGC API - Processes Part 4, draft of 2026, requirements class provenance; PROV-DM; the Wf4Ever ontologies.
    """
    if not job.ended:
        raise ProvenanceMissing(job.id, job.status)
    return _Writer(job, base, description).write()


@dataclass
class _Writer:
    """Gathers what there is to say about one job."""

    job: Job
    base: str
    description: ProcessDescription | None
    elements: list[Element] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)

    @property
    def here(self) -> str:
        return f"{self.base}/jobs/{quote(self.job.id, safe='')}"

    def write(self) -> Provenance:
        self._tell_of_run()
        self._tell_of_agents()
        for index, (name, given) in enumerate(_request.decode(self.job.request or b"{}").inputs.items()):
            self._tell_of_input(Name("job", f"input-{index}"), name, bytes(given))
        for index, (name, output) in enumerate(self.job.outputs().items()):
            self._tell_of_output(Name("job", f"output-{index}"), name, output)
        prefixes = {
            "job": _iri(f"{self.here}/prov#"),
            "wfprov": WFPROV,
            "wfdesc": WFDESC,
            "wf4ever": WF4EVER,
            "dcterms": _DCTERMS,
            "graticule": OWN,
        }
        return Provenance(prefixes=prefixes, elements=tuple(self.elements), relations=tuple(self.relations))

    def _tell_of_run(self) -> None:
        """Tell of the job, its process, and the run that ties them."""
        job = self.job
        process = _location(f"{self.base}/processes/{quote(job.process, safe='')}")
        types = ((TYPE, Name("wfdesc", "Process")), (TYPE, Name("prov", "Plan")))
        self._entity(_PROCESS, f"{job.process} {job.version}", *types, process, _own("version", job.version))
        failure = job.failed_because()
        cause = (_own("cause", failure.cause),) if failure is not None else ()
        told = (_location(self.here), _own("status", job.status), *cause)
        self._entity(_RECORD, f"Job {job.id}", (TYPE, Name("wfdesc", "ProcessRun")), *told)
        self.elements.append(
            Element(
                kind="activity",
                name=_RUN,
                attributes=((LABEL, _text(f"Run of {job.process}")), (TYPE, Name("wfprov", "ProcessRun"))),
                # A job that was dismissed while it waited never ran, and so used nothing.
                start=_moment(job.started),
                end=_moment(job.finished) if job.started else "",
            )
        )
        if job.started:
            self._relate("wasStartedBy", activity=_RUN, trigger=_RECORD, time=_moment(job.started))

    def _tell_of_agents(self) -> None:
        """Tell which software ran the job, and for whom."""
        job = self.job
        software = (TYPE, Name("prov", "SoftwareAgent"))
        engine = (TYPE, Name("wfprov", "WorkflowEngine"))
        self._agent(_SERVICE, "Graticule", software, engine, _location(self.base))
        self._relate("wasAssociatedWith", activity=_RUN, agent=_SERVICE, plan=_PROCESS)
        if job.agent:
            self._agent(_WORKER, f"Agent {job.agent}", software)
            self._relate("actedOnBehalfOf", delegate=_WORKER, responsible=_SERVICE, activity=_RUN)
        self._agent(_ACTOR, job.actor)
        self._relate("wasAssociatedWith", activity=_RUN, agent=_ACTOR)
        self._relate("wasAttributedTo", entity=_RECORD, agent=_ACTOR)

    def _tell_of_input(self, entity: Name, name: str, given: bytes) -> None:
        described = self.description.inputs.get(name) if self.description is not None else None
        if hides(self.description, name):  # neither its checksum nor its size: what is short could be guessed by them
            self._entity(entity, name, _ARTIFACT, (VALUE, Typed(MASK)))
        elif given.startswith(b"[") and described is not None and described.is_list:
            values = _values.decode(given)
            self._entity(entity, name, _ARTIFACT, _COLLECTION, _count(values), *_checksum(given))
            self._tell_of_members(entity, name, [_given(bytes(value)) for value in _shown(values)])
        else:
            self._entity(entity, name, _ARTIFACT, *_given(given))
        if self.job.started:
            self._relate("used", activity=_RUN, entity=entity, time=_moment(self.job.started), role=name)

    def _tell_of_output(self, entity: Name, name: str, output: StoredOutput) -> None:
        address, values = f"{self.here}/results/{quote(name, safe='')}", output.values
        if output.many:
            self._entity(entity, name, _ARTIFACT, _COLLECTION, _count(values), _location(address))
            members = [_kept(value, f"{address}/{number}") for number, value in enumerate(_shown(values))]
            self._tell_of_members(entity, name, members)
        else:
            self._entity(entity, name, _ARTIFACT, *(_kept(values[0], address) if values else ()))
        self._relate("wasGeneratedBy", entity=entity, activity=_RUN, time=_moment(self.job.finished), role=name)

    def _tell_of_members(self, collection: Name, label: str, members: Sequence[tuple[Attribute, ...]]) -> None:
        for number, member in enumerate(members):
            entity = Name(collection.prefix, f"{collection.local}-{number}")
            self._entity(entity, f"{label} {number}", _ARTIFACT, *member)
            self._relate("hadMember", collection=collection, entity=entity)

    def _entity(self, name: Name, label: str, *attributes: Attribute) -> None:
        self.elements.append(Element(kind="entity", name=name, attributes=((LABEL, _text(label)), *attributes)))

    def _agent(self, name: Name, label: str, *attributes: Attribute) -> None:
        self.elements.append(Element(kind="agent", name=name, attributes=((LABEL, _text(label)), *attributes)))

    def _relate(self, kind: RelationKind, *, role: str = "", **arguments: Name | str) -> None:
        self.relations.append(Relation(kind=kind, arguments=arguments, role=_text(role).text))


def _count(values: Sequence[object]) -> Attribute:
    return _own("count", str(len(values)), "integer")


def _shown(values: Sequence[T]) -> Sequence[T]:
    """Return the values of a collection that become entities: all, or none if they are very many."""
    return values if len(values) <= MEMBERS else ()


def _given(value: bytes) -> tuple[Attribute, ...]:
    """Return what is told of one value of an input."""
    members = msgspec.json.decode(value, type=dict[str, msgspec.Raw]) if value.startswith(b"{") else {}
    if "href" in members:
        href = _decoded(bytes(members["href"]))
        return (_FILE, *_format(members.get("type")), *((_location(href),) if isinstance(href, str) else ()))
    literal = _literal(bytes(members.get("value", value)))
    return (*_format(members.get("mediaType")), *((VALUE, one) for one in literal), *_checksum(value))


def _kept(value: StoredValue, address: str) -> tuple[Attribute, ...]:
    """Return what is told of one value of an output."""
    told: tuple[Attribute, ...] = (
        _location(value.href or address),
        (Name("dcterms", "format"), Typed(value.media_type)),
    )
    if value.href is not None or value.file is not None:
        told = (_FILE, *told)
    elif value.content is not None and value.media_type == "application/json":
        told = (*told, *((VALUE, one) for one in _literal(value.content)))
    if value.sha256:
        told = (*told, _own("sha256", value.sha256), _own("size", str(value.size), "integer"))
    return told


def _literal(content: bytes) -> Iterator[Typed]:
    """Yield the value of a JSON literal that is short enough to be shown; nothing for anything else."""
    if len(content) > _LITERAL or content[:1] in b"{[n":
        return
    text = content.decode().strip()
    if content.startswith(b'"'):
        value = _decoded(content)
        if isinstance(value, str) and value and not _CONTROLS.search(value):
            yield Typed(value)
    elif text in ("true", "false"):
        yield Typed(text, Name("xsd", "boolean"))
    elif re.fullmatch(r"-?[0-9]+", text):
        yield Typed(text, Name("xsd", "integer"))
    else:
        yield Typed(text, Name("xsd", "double"))


def _decoded(content: bytes) -> Any:
    return msgspec.json.decode(content)


def _format(media_type: msgspec.Raw | None) -> tuple[Attribute, ...]:
    name = None if media_type is None else _decoded(bytes(media_type))
    return ((Name("dcterms", "format"), _text(name)),) if isinstance(name, str) else ()


def _checksum(content: bytes) -> tuple[Attribute, ...]:
    """Return size and checksum of a value as it was sent, in JSON."""
    return _own("sha256", hashlib.sha256(content).hexdigest()), _own("size", str(len(content)), "integer")


def _own(name: str, text: str, kind: str = "string") -> Attribute:
    return Name("graticule", name), Typed(text, Name("xsd", kind))


def _location(address: str) -> Attribute:
    return LOCATION, Typed(_iri(address), ANY_URI)


def _iri(address: str) -> str:
    """Return an address without what no IRI may have: it stands between angle brackets in some forms."""
    return _NOT_IN_IRIS.sub(lambda found: quote(found.group(), safe=""), address)


def _text(text: str) -> Typed:
    """Return a text that every form can hold; XML has no control characters."""
    return Typed(_CONTROLS.sub("�", text))


def _moment(microseconds: int) -> str:
    return format_time(datetime.fromtimestamp(microseconds / 1e6, UTC)) if microseconds else ""
