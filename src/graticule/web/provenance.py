"""Write provenance in six forms: PROV-JSON, PROV-XML, PROV-N, PROV-JSONLD, Turtle and N-Triples.

All are forms of the W3C and say the same.

The forms of RDF say one and the same graph (PROV-O), both in short (``prov:used``) and qualified (``prov:Usage``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec

from graticule.ogc.prov import (
    ARGUMENTS,
    LABEL,
    LOCATION,
    PROV,
    TYPE,
    VALUE,
    XSD,
    Attribute,
    Element,
    Name,
    Provenance,
    Relation,
    RelationKind,
    Typed,
)

_RDF_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
_RDFS = "http://www.w3.org/2000/01/rdf-schema#"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_STRING = Name("xsd", "string")
_ROLE_IN_RDF = Name("prov", "hadRole")


PROV_JSON = "application/provenance+json"
PROV_N = "text/provenance-notation"


# --- PROV-JSON ----------------------------------------------------------------------------------------------------


def prov_json(provenance: Provenance) -> bytes:
    """Return a document as PROV-JSON (W3C member submission of 2013)."""
    document: dict[str, Any] = {"prefix": dict(provenance.prefixes)}
    for element in provenance.elements:
        members: dict[str, Any] = {}
        if element.start:
            members["prov:startTime"] = element.start
        if element.end:
            members["prov:endTime"] = element.end
        for name, values in _by_name(element.attributes).items():
            encoded = [_json_value(value) for value in values]
            members[str(name)] = encoded if len(encoded) > 1 else encoded[0]
        document.setdefault(element.kind, {})[str(element.name)] = members
    for number, relation in enumerate(provenance.relations):
        members = {f"prov:{name}": str(value) for name, value in _arguments(relation)}
        if relation.role:
            members["prov:role"] = relation.role
        document.setdefault(relation.kind, {})[f"_:r{number}"] = members
    return msgspec.json.encode(document)


def _json_value(value: Name | Typed) -> Any:
    if isinstance(value, Name):
        return {"$": str(value), "type": "prov:QUALIFIED_NAME"}
    return value.text if value.type == _STRING else {"$": value.text, "type": str(value.type)}


# --- PROV-N -------------------------------------------------------------------------------------------------------


def prov_n(provenance: Provenance) -> bytes:
    """Return a document in the notation for people, PROV-N (W3C recommendation of 2013)."""
    lines = ["document", *(f"  prefix {prefix} <{iri}>" for prefix, iri in provenance.prefixes.items()), ""]
    for element in provenance.elements:
        terms = [str(element.name)]
        if element.kind == "activity" and (element.start or element.end):
            terms += [element.start or "-", element.end or "-"]
        lines.append(f"  {element.kind}({', '.join([*terms, *_notation_attributes(element.attributes)])})")
    for relation in provenance.relations:
        terms = [str(relation.arguments.get(name, "-")) for name in ARGUMENTS[relation.kind]]
        role = ((Name("prov", "role"), Typed(relation.role)),) if relation.role else ()
        lines.append(f"  {relation.kind}({', '.join([*terms, *_notation_attributes(role)])})")
    return "\n".join([*lines, "endDocument", ""]).encode()


def _notation_attributes(attributes: tuple[Attribute, ...]) -> list[str]:
    """Return attributes as the last term of a statement; none if there are none."""
    written = []
    for name, value in attributes:
        if isinstance(value, Name):
            written.append(f"{name}='{value}'")
        else:
            kind = "" if value.type == _STRING else f" %% {value.type}"
            written.append(f"{name}={_quoted(value.text)}{kind}")
    return [f"[{', '.join(written)}]"] if written else []


def _quoted(text: str) -> str:
    """Return a text between quotes, as PROV-N and the plain forms of RDF write it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'


# --- PROV-XML -----------------------------------------------------------------------------------------------------

_ORDER = (LABEL, LOCATION, TYPE, VALUE)
"""The schema of PROV-XML wants what PROV knows first, in this order."""


def prov_xml(provenance: Provenance) -> bytes:
    """Return a document as PROV-XML (W3C note of 2013)."""
    # PROV-XML names the types of XML Schema without the ``#`` that RDF puts behind the namespace.
    namespaces = {**provenance.prefixes, "prov": PROV, "xsd": XSD.rstrip("#"), "xsi": _XSI}
    declared = "".join(f" xmlns:{prefix}={quoteattr(iri)}" for prefix, iri in namespaces.items())
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<prov:document{declared}>"]
    for element in provenance.elements:
        lines.append(f'  <prov:{element.kind} prov:id="{element.name}">')
        lines += [f"    <prov:startTime>{element.start}</prov:startTime>"] if element.start else []
        lines += [f"    <prov:endTime>{element.end}</prov:endTime>"] if element.end else []
        lines += [f"    {_xml_value(name, value)}" for name, value in sorted(element.attributes, key=_xml_place)]
        lines.append(f"  </prov:{element.kind}>")
    for relation in provenance.relations:
        lines.append(f"  <prov:{relation.kind}>")
        for name, argument in _arguments(relation):
            refers = isinstance(argument, Name)
            lines.append(
                f'    <prov:{name} prov:ref="{argument}"/>' if refers else f"    <prov:{name}>{argument}</prov:{name}>"
            )
        lines += [f"    <prov:role>{escape(relation.role)}</prov:role>"] if relation.role else []
        lines.append(f"  </prov:{relation.kind}>")
    return "\n".join([*lines, "</prov:document>", ""]).encode()


def _xml_place(attribute: Attribute) -> int:
    return _ORDER.index(attribute[0]) if attribute[0] in _ORDER else len(_ORDER)


def _xml_value(name: Name, value: Name | Typed) -> str:
    if isinstance(value, Name):
        return f'<{name} xsi:type="xsd:QName">{value}</{name}>'
    kind = "" if value.type == _STRING else f' xsi:type="{value.type}"'
    return f"<{name}{kind}>{escape(value.text)}</{name}>"


# --- RDF ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Qualified:
    """How PROV-O says a relation."""

    short: str
    """The property in one step, from the first argument to the second; empty: there is none."""
    property: str = ""
    """The property that leads to the qualified relation; empty: there is none."""
    type: str = ""
    names: Mapping[str, str]
    """Properties of the qualified relation by argument."""


_QUALIFIED: Mapping[RelationKind, _Qualified] = {
    "used": _Qualified(
        short="used", property="qualifiedUsage", type="Usage", names={"entity": "entity", "time": "atTime"}
    ),
    "wasGeneratedBy": _Qualified(
        short="wasGeneratedBy",
        property="qualifiedGeneration",
        type="Generation",
        names={"activity": "activity", "time": "atTime"},
    ),
    "wasAssociatedWith": _Qualified(
        short="wasAssociatedWith",
        property="qualifiedAssociation",
        type="Association",
        names={"agent": "agent", "plan": "hadPlan"},
    ),
    "wasAttributedTo": _Qualified(short="wasAttributedTo", names={}),
    "actedOnBehalfOf": _Qualified(
        short="actedOnBehalfOf",
        property="qualifiedDelegation",
        type="Delegation",
        names={"responsible": "agent", "activity": "hadActivity"},
    ),
    # `wasStartedBy` leads to the entity that started an activity.
    "wasStartedBy": _Qualified(
        short="wasStartedBy",
        property="qualifiedStart",
        type="Start",
        names={"trigger": "entity", "starter": "hadActivity", "time": "atTime"},
    ),
    "hadMember": _Qualified(short="hadMember", names={}),
}

_CLASSES = {"entity": "Entity", "activity": "Activity", "agent": "Agent"}
_IN_RDF = {LABEL: Name("rdfs", "label"), LOCATION: Name("prov", "atLocation"), TYPE: Name("rdf", "type")}
_MOMENT = Name("xsd", "dateTime")


@dataclass(frozen=True, slots=True)
class _Node:
    """A subject with what is said of it."""

    name: Name | None
    """None: a qualified relation, which has no name."""
    says: list[tuple[Name, Name | Typed | _Node]]


def _nodes(provenance: Provenance) -> list[_Node]:
    """Return a document as RDF: one node for each element, the qualified relations inside them."""
    nodes: dict[Name, _Node] = {}
    for element in provenance.elements:
        nodes[element.name] = _Node(element.name, list(_said(element)))
    for relation in provenance.relations:
        first, second, *_ = ARGUMENTS[relation.kind]
        how, subject = _QUALIFIED[relation.kind], relation.arguments[first]
        assert isinstance(subject, Name)
        says = nodes[subject].says
        other = relation.arguments.get(second)
        if isinstance(other, Name):
            says.append((Name("prov", how.short), other))
        if how.property:
            says.append((Name("prov", how.property), _Node(None, list(_qualified(relation, how)))))
    return list(nodes.values())


def _said(element: Element) -> Iterator[tuple[Name, Name | Typed]]:
    yield Name("rdf", "type"), Name("prov", _CLASSES[element.kind])
    if element.start:
        yield Name("prov", "startedAtTime"), Typed(element.start, _MOMENT)
    if element.end:
        yield Name("prov", "endedAtTime"), Typed(element.end, _MOMENT)
    for name, value in element.attributes:
        yield _IN_RDF.get(name, name), value


def _qualified(relation: Relation, how: _Qualified) -> Iterator[tuple[Name, Name | Typed]]:
    yield Name("rdf", "type"), Name("prov", how.type)
    for name, argument in _arguments(relation):
        if name in how.names:
            value = argument if isinstance(argument, Name) else Typed(argument, _MOMENT)
            yield Name("prov", how.names[name]), value
    if relation.role:
        yield _ROLE_IN_RDF, Typed(relation.role)


def _namespaces(provenance: Provenance) -> dict[str, str]:
    return {**provenance.prefixes, "prov": PROV, "xsd": XSD, "rdfs": _RDFS}


def turtle(provenance: Provenance) -> bytes:
    """Return a document as Turtle, in the words of PROV-O."""
    lines = [f"@prefix {prefix}: <{iri}> ." for prefix, iri in _namespaces(provenance).items()]
    lines += [f"\n{node.name}\n{_predicates(node, '    ')} ." for node in _nodes(provenance)]
    return "\n".join([*lines, ""]).encode()


def _predicates(node: _Node, indent: str) -> str:
    written = []
    for name, value in node.says:
        verb = "a" if name == Name("rdf", "type") else str(name)
        if isinstance(value, _Node):
            written.append(f"{indent}{verb} [\n{_predicates(value, indent + '    ')}\n{indent}]")
        elif name == _IN_RDF[LOCATION] and isinstance(value, Typed):
            written.append(f"{indent}{verb} <{value.text}>")
        elif isinstance(value, Name):
            written.append(f"{indent}{verb} {value}")
        else:
            kind = "" if value.type == _STRING else f"^^{value.type}"
            written.append(f"{indent}{verb} {_quoted(value.text)}{kind}")
    return " ;\n".join(written)


def n_triples(provenance: Provenance) -> bytes:
    """Return a document as N-Triples: the graph of `turtle`, one statement a line."""
    namespaces = {**_namespaces(provenance), "rdf": _RDF_TYPE.removesuffix("type")}
    lines: list[str] = []

    def iri(name: Name) -> str:
        return f"<{namespaces[name.prefix]}{name.local}>"

    def write(node: _Node, subject: str) -> None:
        for name, value in node.says:
            if isinstance(value, _Node):
                written = f"_:b{len(lines)}"
                lines.append(f"{subject} {iri(name)} {written} .")
                write(value, written)
                continue
            if isinstance(value, Name):
                written = iri(value)
            elif name == _IN_RDF[LOCATION]:
                written = f"<{value.text}>"
            else:
                written = _quoted(value.text) + ("" if value.type == _STRING else f"^^{iri(value.type)}")
            lines.append(f"{subject} {iri(name)} {written} .")

    for node in _nodes(provenance):
        assert node.name is not None
        write(node, iri(node.name))
    return "\n".join([*lines, ""]).encode()


# --- PROV-JSONLD --------------------------------------------------------------------------------------------------


def _reference(name: str) -> dict[str, str]:
    return {"@id": name, "@type": "@id"}


def _back(name: str) -> dict[str, str]:
    return {"@reverse": name, "@type": "@id"}


def _time(name: str) -> dict[str, str]:
    return {"@id": name, "@type": "xsd:dateTime"}


def _statement(kind: str, **terms: dict[str, str]) -> dict[str, Any]:
    return {"@id": f"prov:{kind}", "@context": terms}


_TERMS: dict[str, Any] = {
    "@version": 1.1,
    "type": _reference("rdf:type"),
    "label": {"@id": "rdfs:label"},
    "location": _reference("prov:atLocation"),
    "role": {"@id": "prov:hadRole"},
    "Entity": _statement("Entity", value={"@id": "prov:value"}),
    "Activity": _statement("Activity", startTime=_time("prov:startedAtTime"), endTime=_time("prov:endedAtTime")),
    "Agent": _statement("Agent"),
    "Usage": _statement(
        "Usage", activity=_back("prov:qualifiedUsage"), entity=_reference("prov:entity"), time=_time("prov:atTime")
    ),
    "Generation": _statement(
        "Generation",
        entity=_back("prov:qualifiedGeneration"),
        activity=_reference("prov:activity"),
        time=_time("prov:atTime"),
    ),
    "Association": _statement(
        "Association",
        activity=_back("prov:qualifiedAssociation"),
        agent=_reference("prov:agent"),
        plan=_reference("prov:hadPlan"),
    ),
    "Delegation": _statement(
        "Delegation",
        delegate=_back("prov:qualifiedDelegation"),
        responsible=_reference("prov:agent"),
        activity=_reference("prov:hadActivity"),
    ),
    "Start": _statement(
        "Start",
        activity=_back("prov:qualifiedStart"),
        trigger=_reference("prov:entity"),
        starter=_reference("prov:hadActivity"),
        time=_time("prov:atTime"),
    ),
}
"""The terms of PROV-JSONLD that are used here; in the document itself, so that nothing must be fetched to read it."""

_LD_NAMES = {LABEL: "label", LOCATION: "location", TYPE: "type", VALUE: "value"}


def prov_jsonld(provenance: Provenance) -> bytes:
    """Return a document as PROV-JSONLD (W3C member submission of 2024), with its context inside."""
    graph: list[dict[str, Any]] = []
    known: dict[Name, dict[str, Any]] = {}
    for element in provenance.elements:
        statement: dict[str, Any] = {"@type": _CLASSES[element.kind], "@id": str(element.name)}
        statement |= {"startTime": element.start} if element.start else {}
        statement |= {"endTime": element.end} if element.end else {}
        for name, values in _by_name(element.attributes).items():
            statement[_LD_NAMES.get(name, str(name))] = [_ld_value(name, value) for value in values]
        known[element.name] = statement
        graph.append(statement)
    for relation in provenance.relations:
        first, second, *_ = ARGUMENTS[relation.kind]
        how, subject = _QUALIFIED[relation.kind], relation.arguments[first]
        other = relation.arguments.get(second)
        assert isinstance(subject, Name)
        if isinstance(other, Name):
            known[subject].setdefault(f"prov:{how.short}", []).append({"@id": str(other)})
        if how.property:
            said = {name: str(argument) for name, argument in _arguments(relation)}
            graph.append({"@type": how.type, **said, **({"role": [relation.role]} if relation.role else {})})
    namespaces = {**_namespaces(provenance), "rdf": _RDF_TYPE.removesuffix("type")}
    return msgspec.json.encode({"@context": [namespaces, _TERMS], "@graph": graph})


def _ld_value(name: Name, value: Name | Typed) -> Any:
    if isinstance(value, Name):
        return str(value)
    if name == LOCATION:
        return value.text
    return {"@value": value.text} if value.type == _STRING else {"@value": value.text, "@type": str(value.type)}


# --- all of them --------------------------------------------------------------------------------------------------


def _by_name(attributes: tuple[Attribute, ...]) -> dict[Name, list[Name | Typed]]:
    found: dict[Name, list[Name | Typed]] = {}
    for name, value in attributes:
        found.setdefault(name, []).append(value)
    return found


def _arguments(relation: Relation) -> Iterator[tuple[str, Name | str]]:
    """Yield the arguments that are known, in their order."""
    for name in ARGUMENTS[relation.kind]:
        if name in relation.arguments:
            yield name, relation.arguments[name]


FORMS: Mapping[str, Callable[[Provenance], bytes]] = {
    PROV_JSON: prov_json,
    "application/json": prov_json,
    "application/ld+json": prov_jsonld,
    "application/provenance+xml": prov_xml,
    "application/xml": prov_xml,
    "text/xml": prov_xml,
    PROV_N: prov_n,
    "application/n-triples": n_triples,
    "text/turtle": turtle,
}
"""How each media type is written; the first is sent to whoever takes anything."""
