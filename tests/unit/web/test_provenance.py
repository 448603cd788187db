"""Every form of provenance says the same: read back by the libraries of others, they are compared as graphs."""

from __future__ import annotations

import msgspec
import prov.model
import pytest
import rdflib
from rdflib.compare import graph_diff, isomorphic

from graticule.errors import ProvenanceMissing
from graticule.jobs.job import Failure, Job, Manifest, StoredOutput, StoredValue
from graticule.jobs.provenance import MEMBERS, OWN, provenance_of
from graticule.ogc.processes import Input, ProcessDescription
from graticule.ogc.prov import WF4EVER, WFDESC, WFPROV
from graticule.web.provenance import n_triples, prov_json, prov_jsonld, prov_n, prov_xml, turtle

# rdflib and prov still use what rdflib itself calls old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib", "ignore::DeprecationWarning:prov")

PROV = rdflib.Namespace("http://www.w3.org/ns/prov#")
BASE = "http://h:80/base"
JOB = rdflib.Namespace(f"{BASE}/jobs/j1/prov#")

REQUEST = r"""{"inputs": {
    "message": "he\"l\\l'o <&> ü ]]> \u00e9 {x} [y]", "whole": 5,
    "part": 0.10, "huge": 1e300, "long": 12345678901234567890,
    "yes": true, "none": null, "lines": "x\ny", "empty": "", "several": [1, 2, "x"], "a/b~c[d] e'": {"value": -3},
    "object": {"value": {"a": 1}, "mediaType": "application/json"}, "bell": "\u0007",
    "file": {"href": "https://u@h/a b?x=<y>&z=\"", "type": "image/tiff"}
}}"""
MANIFEST: Manifest = {
    "text": StoredOutput(values=[StoredValue(content=b'"hello"', size=7, sha256="a" * 64)]),
    "files": StoredOutput(
        many=True,
        values=[
            StoredValue(file="files-0", media_type="image/tiff; application=geotiff", size=10**10, sha256="b" * 64),
            StoredValue(href="http://elsewhere/x y", media_type="text/csv"),
        ],
    ),
    "nothing": StoredOutput(values=[]),
}
SEVERAL = ("several", "numbers")
ECHO = ProcessDescription(
    id="echo",
    version="1.0.0",
    inputs={
        name: Input(schema={}, max_occurs="unbounded" if name in SEVERAL else 1)
        for name in (*msgspec.json.decode(REQUEST)["inputs"], *SEVERAL)
    },
)


def job(**changes) -> Job:
    ran = Job(
        id="j1",
        process="echo",
        version="1.0.0",
        status="successful",
        actor="ada",
        agent="a1",
        created=1_700_000_000_000_000,
        started=1_700_000_000_250_000,
        finished=1_700_000_001_000_000,
        request=REQUEST.encode(),
        manifest=msgspec.msgpack.encode(MANIFEST),
    )
    return msgspec.structs.replace(ran, **changes)


def failed() -> Job:
    failure = msgspec.msgpack.encode(Failure(cause="time limit", detail="too long"))
    return job(status="failed", manifest=b"", failure=failure)


def never_begun() -> Job:
    return job(status="dismissed", manifest=b"", started=0, agent="")


JOBS = pytest.mark.parametrize("ended", [job(), failed(), never_begun()], ids=["successful", "failed", "never begun"])


def read(content: bytes, form: str) -> prov.model.ProvDocument:
    return prov.model.ProvDocument.deserialize(content=content.decode(), format=form)


def graph(content: bytes, form: str) -> rdflib.Graph:
    return rdflib.Graph().parse(data=content, format=form)


def rdf(ended: Job, description: ProcessDescription | None = ECHO) -> rdflib.Graph:
    return graph(turtle(provenance_of(ended, BASE, description)), "turtle")


@JOBS
def test_the_forms_of_prov_read_back_as_one_document(ended):
    told = provenance_of(ended, BASE, ECHO)

    document = read(prov_json(told), "json")
    assert len(document.get_records()) > 10
    assert read(prov_xml(told), "xml") == document
    assert read(prov_n(told), "provn") == document


@JOBS
def test_the_forms_of_rdf_read_back_as_one_graph(ended):
    told = provenance_of(ended, BASE, ECHO)

    first = graph(turtle(told), "turtle")
    assert len(first) > 50
    assert isomorphic(graph(n_triples(told), "nt"), first)
    assert isomorphic(graph(prov_jsonld(told), "json-ld"), first)


@JOBS
def test_the_graph_has_all_that_the_document_of_prov_has_as_rdf(ended):
    told = provenance_of(ended, BASE, ECHO)

    theirs = graph(read(prov_json(told), "json").serialize(format="rdf", rdf_format="turtle"), "turtle")
    # The library writes places as texts; in PROV-O they are things.
    for subject, _, place in list(theirs.triples((None, PROV.atLocation, None))):
        theirs.remove((subject, PROV.atLocation, place))
        theirs.add((subject, PROV.atLocation, rdflib.URIRef(str(place))))
    _, _, missing = graph_diff(graph(turtle(told), "turtle"), theirs)
    assert set(missing) == set()


def test_reading_json_ld_needs_no_network():
    document = msgspec.json.decode(prov_jsonld(provenance_of(job(), BASE, ECHO)))

    assert all(isinstance(context, dict) for context in document["@context"])


def test_the_job_its_process_and_its_run_are_tied():
    told = rdf(job())

    assert (JOB.record, rdflib.RDF.type, rdflib.URIRef(f"{WFDESC}ProcessRun")) in told
    assert (JOB.record, PROV.atLocation, rdflib.URIRef(f"{BASE}/jobs/j1")) in told
    assert (JOB.process, rdflib.RDF.type, rdflib.URIRef(f"{WFDESC}Process")) in told
    assert (JOB.process, PROV.atLocation, rdflib.URIRef(f"{BASE}/processes/echo")) in told
    assert (JOB.process, rdflib.URIRef(f"{OWN}version"), rdflib.Literal("1.0.0")) in told
    assert (JOB.run, rdflib.RDF.type, rdflib.URIRef(f"{WFPROV}ProcessRun")) in told
    assert (JOB.run, PROV.wasStartedBy, JOB.record) in told
    assert {str(told.value(usage, PROV.hadPlan)) for usage in told.objects(JOB.run, PROV.qualifiedAssociation)} == {
        str(JOB.process),
        "None",
    }


def test_an_input_is_used_in_the_role_of_its_name():
    told = rdf(job())

    roles = {str(told.value(one, PROV.hadRole)) for one in told.objects(JOB.run, PROV.qualifiedUsage)}
    used = set(told.objects(JOB.run, PROV.used))
    assert roles == set(msgspec.json.decode(REQUEST)["inputs"])
    assert all((one, rdflib.RDF.type, rdflib.URIRef(f"{WFPROV}Artifact")) in told for one in used)
    assert len(used) == len(roles)


def test_a_result_is_generated_in_the_role_of_its_name_with_its_checksum():
    told = rdf(job())

    output = next(told.subjects(rdflib.RDFS.label, rdflib.Literal("text")))
    generation = told.value(output, PROV.qualifiedGeneration)
    assert (output, PROV.wasGeneratedBy, JOB.run) in told
    assert told.value(generation, PROV.hadRole) == rdflib.Literal("text")
    assert told.value(output, rdflib.URIRef(f"{OWN}sha256")) == rdflib.Literal("a" * 64)
    assert told.value(output, PROV.value) == rdflib.Literal("hello")
    assert told.value(output, PROV.atLocation) == rdflib.URIRef(f"{BASE}/jobs/j1/results/text")


@pytest.mark.parametrize(("label", "places"), [
    ("file", {"https://u@h/a%20b?x=%3Cy%3E&z=%22"}), ("files 0", {f"{BASE}/jobs/j1/results/files/0"}),
    ("files 1", {"http://elsewhere/x%20y"}),
])  # fmt: skip
def test_what_is_linked_is_a_file_with_a_place(label, places):
    told = rdf(job())

    entity = next(told.subjects(rdflib.RDFS.label, rdflib.Literal(label)))
    assert (entity, rdflib.RDF.type, rdflib.URIRef(f"{WF4EVER}File")) in told
    assert set(map(str, told.objects(entity, PROV.atLocation))) == places


@pytest.mark.parametrize(("label", "count"), [("several", 3), ("files", 2)])
def test_several_values_are_a_collection_of_each(label, count):
    told = rdf(job())

    collection = next(told.subjects(rdflib.RDFS.label, rdflib.Literal(label)))
    assert (collection, rdflib.RDF.type, PROV.Collection) in told
    assert len(set(told.objects(collection, PROV.hadMember))) == count


def test_an_array_that_is_one_value_is_no_collection():
    description = ProcessDescription(id="echo", version="1", inputs={"several": Input(schema={"type": "array"})})

    told = rdf(job(), description)

    assert (None, rdflib.RDFS.label, rdflib.Literal("several 0")) not in told


def test_of_very_many_values_only_the_number_is_told():
    request = msgspec.json.encode({"inputs": {"numbers": list(range(MEMBERS + 1))}})

    told = rdf(job(request=request, manifest=b""))

    collection = next(told.subjects(rdflib.RDFS.label, rdflib.Literal("numbers")))
    assert int(str(told.value(collection, rdflib.URIRef(f"{OWN}count")))) == MEMBERS + 1
    assert (collection, PROV.hadMember, None) not in told


def test_what_nobody_knows_to_be_no_secret_is_hidden():
    told = prov_json(provenance_of(job(), BASE, None))

    inputs = [one for name, one in msgspec.json.decode(told)["entity"].items() if name.startswith("job:input-")]
    assert {one["prov:value"] for one in inputs} == {"********"}
    assert {frozenset(one) for one in inputs} == {frozenset({"prov:label", "prov:type", "prov:value"})}


def test_a_failed_job_says_why():
    told = rdf(failed())

    assert told.value(JOB.record, rdflib.URIRef(f"{OWN}status")) == rdflib.Literal("failed")
    assert told.value(JOB.record, rdflib.URIRef(f"{OWN}cause")) == rdflib.Literal("time limit")


def test_a_run_has_its_times():
    told = rdf(job())

    assert str(told.value(JOB.run, PROV.startedAtTime)) == "2023-11-14T22:13:20.250000+00:00"
    assert str(told.value(JOB.run, PROV.endedAtTime)) == "2023-11-14T22:13:21+00:00"


def test_a_job_that_never_began_has_no_times_and_used_nothing():
    told = rdf(never_begun())

    assert (JOB.run, PROV.used, None) not in told
    assert (JOB.run, PROV.startedAtTime, None) not in told
    assert (JOB.run, PROV.endedAtTime, None) not in told


@pytest.mark.parametrize("status", ["created", "accepted", "running"])
def test_a_job_that_has_not_ended_has_no_provenance(status):
    with pytest.raises(ProvenanceMissing):
        provenance_of(job(status=status), BASE, ECHO)
