"""Workspaces do not see each other, tokens name actors, and links follow the way that a client came."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import httpx2
import pytest

from tests.serving import Server

TOKENS = {"ada": "token-of-ada", "bob": "token-of-bob", "eve": "token-of-eve"}
CONFIG = """
[workspaces]
names = ["default", "east"]

[[security.tokens]]
actor = "ada"
sha256 = "{ada}"

[[security.tokens]]
actor = "bob"
sha256 = "{bob}"

[[security.tokens]]
actor = "eve"
sha256 = "{eve}"
workspaces = ["east"]
""".format(**{actor: hashlib.sha256(token.encode()).hexdigest() for actor, token in TOKENS.items()})


@pytest.fixture
def guarded(serve: Any) -> Server:
    return serve(config=CONFIG)


def client(server: Server, actor: str = "", **headers: str) -> httpx2.Client:
    headers = {"Accept": "application/json", **headers}
    if actor:
        headers["Authorization"] = f"Bearer {TOKENS[actor]}"
    return httpx2.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30)


def send(http: httpx2.Client, prefix: str = "") -> str:
    body = {"inputs": {"name": "x"}}
    answer = http.post(f"{prefix}/processes/hello-world/execution", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def test_without_a_token_nobody_enters_and_the_answer_says_how(guarded: Server) -> None:
    with client(guarded) as http:
        refused = http.get("/processes")
        style = http.get("/static/style.css")

    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in refused.json()["detail"]
    assert style.status_code == 200


def test_a_wrong_token_is_no_token(guarded: Server) -> None:
    with client(guarded, Authorization="Bearer nonsense") as http:
        assert http.get("/processes").status_code == 401


def test_an_actor_sees_only_its_own_jobs(guarded: Server) -> None:
    with client(guarded, "ada") as ada, client(guarded, "bob") as bob:
        job = send(ada)

        assert ada.get(job).status_code == 200
        assert bob.get(job).status_code == 404
        assert bob.get("/jobs").json()["jobs"] == []
        assert bob.delete(job).status_code == 404


def execute_with(http: httpx2.Client, href: str, **headers: str) -> httpx2.Response:
    body = {"inputs": {"octets": {"href": href}}, "outputs": {"octets": {}}}
    return http.post("/processes/echo-all/execution", json=body, headers={"Accept": "*/*", **headers})


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_the_file_of_another_actor_is_as_unknown_as_one_that_does_not_exist(guarded: Server, relative: bool) -> None:
    with client(guarded, "ada") as ada, client(guarded, "bob") as bob:
        secret = ada.post("/files?name=secret.bin", content=b"of Ada", headers={"Content-Type": "x/y"}).json()["href"]
        href = secret.removeprefix(guarded.url) if relative else secret
        own = execute_with(ada, href)
        others = execute_with(bob, href)
        identifier = secret.split("/")[-2]
        unknown = execute_with(bob, href.replace(identifier, "0" * 32))
        jobs = bob.get("/jobs").json()["jobs"]

    assert (own.status_code, own.content) == (200, b"of Ada")
    assert others.status_code == 400
    assert others.text.replace(identifier, "0" * 32) == unknown.text
    assert [error["pointer"] for error in others.json()["errors"]] == ["/inputs/octets/href"]
    assert jobs == []


def test_a_job_that_runs_later_still_finds_the_file_of_its_actor(guarded: Server) -> None:
    with client(guarded, "ada") as ada:
        href = ada.post("/files?name=own.bin", content=b"of Ada", headers={"Content-Type": "x/y"}).json()["href"]
        jobs = [execute_with(ada, href, Prefer="respond-async").headers["location"] for _ in range(6)]
        found = [content_when_done(ada, job) for job in jobs]

    assert found == [b"of Ada"] * 6


def content_when_done(http: httpx2.Client, job: str) -> bytes:
    deadline = time.monotonic() + 20
    while http.get(job).json()["status"] != "successful" and time.monotonic() < deadline:
        time.sleep(0.05)
    return http.get(f"{job}/results/octets", headers={"Accept": "*/*"}).content


def test_a_token_opens_only_its_workspaces(guarded: Server) -> None:
    with client(guarded, "eve") as eve:
        assert eve.get("/processes").status_code == 404
        assert eve.get("/east/ogc-api/processes").status_code == 200


def test_a_job_of_another_workspace_is_not_found(serve: Any) -> None:
    server = serve(config='[workspaces]\nnames = ["default", "east", "west"]\n')
    with client(server) as http:
        job = send(http, "/east/ogc-api").rsplit("/", 1)[-1]

        assert http.get(f"/east/ogc-api/jobs/{job}").status_code == 200
        assert http.get(f"/west/ogc-api/jobs/{job}").status_code == 404
        assert http.get(f"/jobs/{job}").status_code == 404


def test_an_unknown_workspace_is_not_found(server: Server) -> None:
    with client(server) as http:
        assert http.get("/nowhere/ogc-api/processes").status_code == 404


def test_a_workspace_s_links_stay_in_it(serve: Any) -> None:
    server = serve(config='[workspaces]\nnames = ["default", "east"]\n')
    with client(server) as http:
        links = http.get("/east/ogc-api/").json()["links"]

    assert {link["href"].startswith(f"{server.url}/east/ogc-api/") for link in links} == {True}


def test_files_have_a_short_address_in_their_workspace(serve: Any) -> None:
    server = serve(config='[workspaces]\nnames = ["default", "east"]\n')
    with client(server) as http:
        uploaded = http.post("/east/files?name=a.txt", content=b"hello", headers={"Content-Type": "text/plain"})
        href = uploaded.headers["location"]

        assert uploaded.status_code == 201
        assert http.get(href, headers={"Accept": "*/*"}).content == b"hello"
        assert http.get(href.replace("/east/ogc-api", ""), headers={"Accept": "*/*"}).status_code == 404


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Forwarded": "for=1.2.3.4;host=maps.example;proto=https"}, "https://maps.example/"),
        (
            {"X-Forwarded-Host": "maps.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/geo"},
            "https://maps.example/geo/",
        ),
        ({"Forwarded": "host=evil.example, for=1.2.3.4;host=maps.example;proto=https"}, "https://maps.example/"),
        (
            {"X-Forwarded-Host": "evil.example, maps.example", "X-Forwarded-Proto": "https"},
            "https://maps.example/",
        ),
        ({"X-Forwarded-Host": "maps.example", "X-Forwarded-Prefix": ".evil.example"}, "http://maps.example/"),
    ],
    ids=["Forwarded", "X-Forwarded with a prefix", "the client's Forwarded", "the client's X-Forwarded", "no prefix"],
)
def test_links_follow_a_trusted_proxy(serve: Any, headers: dict[str, str], expected: str) -> None:
    trusting = serve(env={"GRATICULE_SERVER__TRUSTED_PROXIES": "127.0.0.0/8"})
    with client(trusting, **headers) as http:
        assert http.get("/").json()["links"][0]["href"] == expected


def test_forwarded_headers_of_strangers_change_nothing(server: Server) -> None:
    with client(server, Forwarded="host=evil.example;proto=https") as http:
        assert http.get("/").json()["links"][0]["href"] == f"{server.url}/"


def test_the_public_url_begins_every_link(serve: Any) -> None:
    server = serve(env={"GRATICULE_SERVER__PUBLIC_URL": "https://maps.example/geo"})
    with client(server) as http:
        links = http.get("/processes/echo").json()["links"]

    ours = [link["href"] for link in links if link["rel"] != "profile"]
    assert {href.startswith("https://maps.example/geo/") for href in ours} == {True}
