"""The provenance of jobs: in every form, read back by the libraries of others."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import httpx2
import prov.model
import pytest
import rdflib
from rdflib.compare import isomorphic

from tests.e2e.beyond_the_suite.asking import HTML, assert_problem, done, ended, href, media_type, running, submit
from tests.serving import Server

# rdflib and prov still use what rdflib itself calls old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib", "ignore::DeprecationWarning:prov")

PART5 = "https://www.opengis.net/def/exceptions/ogcapi-processes-5/1.0/"
PROV_JSON = "application/provenance+json"
PROV = rdflib.Namespace("http://www.w3.org/ns/prov#")
OWN = rdflib.Namespace("urn:graticule:prov:")
SHORT = {
    "json": "application/json",
    "jsonld": "application/ld+json",
    "xml": "application/xml",
    "provn": "text/provenance-notation",
    "nt": "application/n-triples",
    "turtle": "text/turtle",
}
PROFILES = {
    "prov-json": PROV_JSON,
    "PROV-JSONLD": "application/ld+json",
    "prov-xml": "application/provenance+xml",
    "prov-n": "text/provenance-notation",
    "prov-nt": "application/n-triples",
    "prov-turtle": "text/turtle",
}
AS_PROV = {
    PROV_JSON: "json", "application/json": "json", "application/provenance+xml": "xml", "application/xml": "xml",
    "text/xml": "xml", "text/provenance-notation": "provn",
}  # fmt: skip
AS_RDF = {"text/turtle": "turtle", "application/n-triples": "nt", "application/ld+json": "json-ld"}
REQUEST = {"inputs": {"message": "grüße \"&<'>", "numbers": [1, 2], "mixed": {"value": {"a": [1.5]}}}}


@pytest.fixture(scope="module")
def job(http: httpx2.Client) -> str:
    """The path of an echo that has ended."""
    return done(http, "echo", REQUEST)


def told(http: httpx2.Client, job: str, accept: str) -> bytes:
    answer = http.get(f"{job}/prov", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert media_type(answer) == accept
    return answer.content


def graph(http: httpx2.Client, job: str, accept: str = "text/turtle") -> rdflib.Graph:
    return rdflib.Graph().parse(data=told(http, job, accept), format=AS_RDF[accept])


def document(http: httpx2.Client, job: str, accept: str) -> Any:
    content = told(http, job, accept).decode()
    return prov.model.ProvDocument.deserialize(content=content, format=AS_PROV[accept])


def test_t5__prov_json_is_the_default(http: httpx2.Client, job: str):
    answer = http.get(f"{job}/prov", headers={"Accept": "*/*"})

    assert media_type(answer) == PROV_JSON
    assert answer.json()["prefix"]["wfprov"] == "http://purl.org/wf4ever/wfprov#"


@pytest.mark.parametrize("accept", [*AS_PROV][1:])
def test_t4__every_form_of_prov_is_the_same_document(http: httpx2.Client, job: str, accept: str):
    assert document(http, job, accept) == document(http, job, PROV_JSON)


@pytest.mark.parametrize("accept", [*AS_RDF][1:])
def test_t4__every_form_of_rdf_is_the_same_graph(http: httpx2.Client, job: str, accept: str):
    assert isomorphic(graph(http, job, accept), graph(http, job))


@pytest.mark.parametrize("f", [*SHORT, "text/turtle", "application/provenance+json", "application/ld%2Bjson"])
def test_t4__per_prov_content_negotiation(http: httpx2.Client, job: str, f: str):
    answer = http.get(f"{job}/prov?f={f}")

    assert answer.status_code == 200
    assert media_type(answer) == SHORT.get(f, f.replace("%2B", "+"))


@pytest.mark.parametrize("profile", PROFILES)
def test_t4__a_form_is_asked_for_by_its_profile(http: httpx2.Client, job: str, profile: str):
    assert media_type(http.get(f"{job}/prov?profile={profile}")) == PROFILES[profile]


def test_t5__prov_unsupported_format(http: httpx2.Client, job: str):
    answer = http.get(f"{job}/prov", headers={"Accept": "image/png"})

    assert_problem(answer, 406)
    assert answer.json()["type"] == f"{PART5}prov-unsupported-format"


@pytest.mark.parametrize("query", ["f=rdf", "f=", "other=1", "f=json&f=xml"])
def test_x_an_unknown_parameter_or_value_is_refused(http: httpx2.Client, job: str, query: str):
    assert_problem(http.get(f"{job}/prov?{query}"), 400, "invalid-query-parameter-value")


def test_x_provenance_has_a_page(http: httpx2.Client, job: str):
    page = http.get(f"{job}/prov", headers={"Accept": f"{HTML},application/xml;q=0.9,*/*;q=0.8"})

    assert media_type(page) == HTML
    assert "wasGeneratedBy(job:output-0, job:run" in page.text


def test_t5__a_status_document_links_the_provenance(http: httpx2.Client, job: str):
    link = href(http.get(job).json(), "https://www.w3.org/ns/prov", PROV_JSON)

    assert urlsplit(str(link)).path == f"{job}/prov"


def test_t5__the_provenance_tells_what_the_status_document_tells(http: httpx2.Client, server: Server, job: str):
    found, status = graph(http, job), http.get(job).json()

    run = next(found.subjects(rdflib.RDF.type, PROV.Activity))
    assert str(found.value(run, PROV.startedAtTime)).replace("+00:00", "Z") == status["started"]
    assert str(found.value(run, PROV.endedAtTime)).replace("+00:00", "Z") == status["finished"]
    places = set(map(str, found.objects(None, PROV.atLocation)))
    assert {f"{server.url}{job}", f"{server.url}/processes/echo"} <= places


def test_t5__inputs_and_results_have_their_roles_and_checksums(http: httpx2.Client, job: str):
    found, results = graph(http, job), http.get(f"{job}/results?profile=ogc-results").json()

    run = next(found.subjects(rdflib.RDF.type, PROV.Activity))
    used = {str(found.value(usage, PROV.hadRole)) for usage in found.objects(run, PROV.qualifiedUsage)}
    generated = {}
    for output, generation in found.subject_objects(PROV.qualifiedGeneration):
        generated[str(found.value(generation, PROV.hadRole))] = output
    assert used == set(REQUEST["inputs"])
    assert set(generated) == set(results)
    content = http.get(str(found.value(generated["message"], PROV.atLocation))).content
    assert str(found.value(generated["message"], OWN.sha256)) == hashlib.sha256(content).hexdigest()


def test_x_what_is_kept_as_a_file_has_its_checksum(http: httpx2.Client):
    text = "x" * 100_000
    job = done(http, "echo", {"inputs": {"message": text}, "outputs": {"message": {}}})

    found = graph(http, job)

    output = next(found.subjects(PROV.wasGeneratedBy))
    content = http.get(str(found.value(output, PROV.atLocation))).content
    assert str(found.value(output, OWN.sha256)) == hashlib.sha256(content).hexdigest()
    assert int(str(found.value(output, OWN.size))) == len(content)


def test_x_a_job_that_failed_or_was_dismissed_has_provenance(http: httpx2.Client):
    failed = submit(http, "echo-all", {"inputs": {"image": {"href": "http://nowhere.invalid/x.png"}}})
    ended(http, failed, status="failed")
    dismissed = running(http)
    http.delete(dismissed)

    for job, status in ((failed, "failed"), (dismissed, "dismissed")):
        found = graph(http, job)
        assert set(map(str, found.objects(None, OWN.status))) == {status}
        assert document(http, job, "text/provenance-notation") == document(http, job, PROV_JSON)


def test_t5__prov_missing(http: httpx2.Client):
    job = running(http)

    answer = http.get(f"{job}/prov")
    http.delete(job)

    assert_problem(answer, 404)
    assert answer.json()["type"] == f"{PART5}prov-missing"
    assert_problem(http.get("/jobs/nothing/prov"), 404, "no-such-job")
