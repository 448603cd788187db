"""The list of processes and their descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from tests.e2e.beyond_the_suite.asking import (
    BUILT_IN,
    HTML,
    PROFILE,
    REL,
    assert_problem,
    header_links,
    href,
    hrefs,
    media_type,
    nulls_in,
)
from tests.e2e.ogc_suite import wire
from tests.e2e.ogc_suite.schemas import Schemas
from tests.serving import Server


def test_t1_0__req_core_process_list_success(http: httpx2.Client, schemas: Schemas) -> None:
    document = http.get("/processes").json()

    assert schemas.remote_faults("processList.yaml", document) == []
    assert list(nulls_in(document)) == []


def test_t2_0__req_core_process_list_success(http: httpx2.Client, draft: Callable[[str, Any], list[str]]) -> None:
    assert draft("processes-core/processList.yaml", http.get("/processes").json()) == []


def test_the_built_in_processes_are_offered(http: httpx2.Client) -> None:
    assert set(BUILT_IN) <= {process["id"] for process in http.get("/processes?limit=1000").json()["processes"]}


def test_summaries_hold_neither_inputs_nor_outputs(http: httpx2.Client) -> None:
    assert all(not {"inputs", "outputs"} & set(process) for process in http.get("/processes").json()["processes"])


def test_t1_0__req_core_pl_links(http: httpx2.Client, server: Server) -> None:
    document = http.get("/processes").json()

    assert href(document, "self") == f"{server.url}/processes"
    assert media_type(http.get(href(document, "alternate", HTML) or "")) == HTML


def test_t2_0__req_core_process_summary_links(http: httpx2.Client, server: Server) -> None:
    for process in http.get("/processes").json()["processes"]:
        assert hrefs(process, "self") == [f"{server.url}/processes/{process['id']}"]
        assert href(process, "alternate", HTML)


def test_t1_0__rec_core_next_2_following_gives_every_process_once(http: httpx2.Client) -> None:
    whole = [process["id"] for process in http.get("/processes?limit=1000").json()["processes"]]
    followed: list[str] = []
    url: str | None = "/processes?limit=1"

    while url is not None and len(followed) <= len(whole):
        page = http.get(url).json()
        assert len(page["processes"]) <= 1
        followed += [process["id"] for process in page["processes"]]
        url = href(page, "next")

    assert followed == whole


def test_t1_0__per_core_prev_leads_back(http: httpx2.Client) -> None:
    first = http.get("/processes?limit=1").json()
    second = http.get(href(first, "next") or "").json()

    back = http.get(href(second, "prev") or "").json()

    assert [process["id"] for process in back["processes"]] == [process["id"] for process in first["processes"]]
    assert href(first, "prev") is None


@pytest.mark.parametrize("path", ["/processes", "/jobs"])
@pytest.mark.parametrize("limit", ["0", "-1", "abc", "1.5", ""])
def test_t1_0__req_core_pl_limit_response_a_bad_limit_gives_400(http: httpx2.Client, path: str, limit: str) -> None:
    answer = http.get(path, params={"limit": limit})

    assert_problem(answer, 400, "invalid-query-parameter-value")
    assert "limit" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/processes", "/jobs"])
def test_t1_0__req_core_pl_limit_response_a_large_limit_is_clamped(http: httpx2.Client, path: str) -> None:
    assert http.get(path, params={"limit": "10000000"}).status_code == 200


@pytest.mark.parametrize("process", BUILT_IN)
def test_t1_0__req_ogc_process_description_json_encoding(http: httpx2.Client, schemas: Schemas, process: str) -> None:
    document = http.get(f"/processes/{process}").json()

    assert (
        schemas.bundled_faults(
            {"$ref": "https://schemas.opengis.net/ogcapi/processes/part1/1.0/openapi/schemas/process.yaml"}, document
        )
        == []
    )
    assert list(nulls_in(document)) == []


@pytest.mark.parametrize("process", BUILT_IN)
def test_t2_0__req_ogc_process_description_json_encoding(
    http: httpx2.Client, draft: Callable[[str, Any], list[str]], process: str
) -> None:
    document = http.get(f"/processes/{process}").json()

    assert draft("processes-core/process.yaml", document) == []
    assert f"{PROFILE}ogc-process-description" in hrefs(document, "profile")


@pytest.mark.parametrize("process", BUILT_IN)
def test_t2_0__schemas_of_inputs_and_outputs_are_json_schemas_too(http: httpx2.Client, process: str) -> None:
    document = http.get(f"/processes/{process}").json()

    for given in [*document["inputs"].values(), *document["outputs"].values()]:
        Draft202012Validator.check_schema(given["schema"])


@pytest.mark.parametrize("process", BUILT_IN)
def test_t1_0__cardinalities_make_sense(http: httpx2.Client, process: str) -> None:
    for given in http.get(f"/processes/{process}").json()["inputs"].values():
        least, most = given.get("minOccurs", 1), given.get("maxOccurs", 1)
        assert most == "unbounded" or (most >= 1 and most >= least >= 0)


@pytest.mark.parametrize(
    ("rel", "path"),
    [("self", "/processes/echo"), ("service", ""), (f"{REL}execute", "/processes/echo/execution")],
)
def test_t2_0__req_ogc_process_description_links(http: httpx2.Client, server: Server, rel: str, path: str) -> None:
    document = http.get("/processes/echo").json()

    assert (href(document, rel) or "").rstrip("/") == server.url + path


def test_t2_0__req_ogc_process_description_links_lead_to_the_page(http: httpx2.Client) -> None:
    document = http.get("/processes/echo").json()

    assert media_type(http.get(href(document, "alternate", HTML) or "")) == HTML


def test_t2_0__rec_ogc_process_description_process_links_have_rel_and_type(http: httpx2.Client) -> None:
    links = http.get("/processes/echo").json()["links"]

    assert all(link["rel"] for link in links)
    assert all(link.get("type") for link in links if link["rel"] != "profile")


def test_t2_0__rec_core_header_profile_link(http: httpx2.Client) -> None:
    profiles = {
        target.replace("https:", "http:")
        for target, rel in header_links(http.get("/processes/echo"))
        if rel == "profile"
    }

    assert "http://www.opengis.net/def/profile/OGC/0/ogc-process-description" in profiles


@pytest.mark.parametrize("path", ["/processes/nothing-here", "/processes/nothing-here/execution"])
def test_t1_0__req_core_process_exception_no_such_process(http: httpx2.Client, path: str) -> None:
    answer = http.get(path) if not path.endswith("execution") else http.post(path, json={"inputs": {}})

    assert_problem(answer, 404, "no-such-process")


@pytest.mark.parametrize("process", ["%2e%2e", "..%2f..%2fetc%2fpasswd", "echo%2f..", "%00"])
def test_a_process_id_that_climbs_finds_nothing(server: Server, process: str) -> None:
    answer = wire.get(f"{server.url}/processes/{process}")

    assert answer.status == 404, str(answer)
    assert answer.json()["status"] == 404


def test_a_plain_dot_dot_in_a_path_does_not_leave_the_processes(server: Server) -> None:
    assert wire.get(f"{server.url}/processes/../../etc/passwd").status in {400, 404}
