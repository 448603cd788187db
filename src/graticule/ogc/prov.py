"""Provenance as values: the part of the W3C's PROV data model that tells of a job (PROV-DM).

What writes them as PROV-JSON, PROV-N, PROV-XML or RDF stands elsewhere; here is only what all of them say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

PROV = "http://www.w3.org/ns/prov#"
XSD = "http://www.w3.org/2001/XMLSchema#"
WFPROV = "http://purl.org/wf4ever/wfprov#"
WFDESC = "http://purl.org/wf4ever/wfdesc#"
WF4EVER = "http://purl.org/wf4ever/wf4ever#"

REL_PROV = "https://www.w3.org/ns/prov"
"""Relation of a link that leads to the provenance of what it stands in."""


class Name(NamedTuple):
    """A qualified name; its local part has letters, digits, ``-`` and ``.`` only, and begins with a letter."""

    prefix: str
    local: str

    def __str__(self) -> str:
        return f"{self.prefix}:{self.local}"


class Typed(NamedTuple):
    """A literal as its text, with its type."""

    text: str
    type: Name = Name("xsd", "string")


Attribute = tuple[Name, Name | Typed]

LABEL = Name("prov", "label")
LOCATION = Name("prov", "location")
ROLE = Name("prov", "role")
TYPE = Name("prov", "type")
VALUE = Name("prov", "value")
ANY_URI = Name("xsd", "anyURI")

ElementKind = Literal["entity", "activity", "agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A thing that provenance is about."""

    kind: ElementKind
    name: Name
    attributes: tuple[Attribute, ...] = ()
    start: str = ""
    """Of an activity: when it began, RFC 3339; empty: never, or not known."""
    end: str = ""


RelationKind = Literal[
    "used", "wasGeneratedBy", "wasAssociatedWith", "wasAttributedTo", "actedOnBehalfOf", "wasStartedBy", "hadMember"
]

ARGUMENTS: Mapping[RelationKind, tuple[str, ...]] = {
    "used": ("activity", "entity", "time"),
    "wasGeneratedBy": ("entity", "activity", "time"),
    "wasAssociatedWith": ("activity", "agent", "plan"),
    "wasAttributedTo": ("entity", "agent"),
    "actedOnBehalfOf": ("delegate", "responsible", "activity"),
    "wasStartedBy": ("activity", "trigger", "starter", "time"),
    "hadMember": ("collection", "entity"),
}
"""What each relation relates, in the order of PROV-N; the first two are what it leads from and, mostly, to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What one thing has to do with another."""

    kind: RelationKind
    arguments: Mapping[str, Name | str]
    """By the names in `ARGUMENTS`; those that are absent are not known. ``time`` is RFC 3339, all others are names."""
    role: str = ""
    """What the thing was to the activity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """A PROV document."""

    prefixes: Mapping[str, str]
    """Namespaces by prefix, besides ``prov`` and ``xsd``, which every document knows."""
    elements: tuple[Element, ...]
    relations: tuple[Relation, ...]
