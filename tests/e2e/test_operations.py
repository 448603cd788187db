"""What whoever keeps a service running sees of it: health, metrics, logs and traces."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.postgres import Postgres
from tests.receiver import receiver
from tests.serving import Server, Worker

PROCESSES = Path(__file__).with_name("job_processes.py")
SECRET = "open-sesame-1234"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def client(server: Server, **headers: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, headers=headers)


def execute(http: httpx2.Client, process: str, prefer: str = "", subscriber: Any = None, **inputs: Any) -> Any:
    body = {"inputs": inputs} | ({"subscriber": subscriber} if subscriber else {})
    return http.post(f"/processes/{process}/execution", json=body, headers={"Prefer": prefer} if prefer else {})


def wait_for(http: httpx2.Client, job: str) -> str:
    for _ in range(500):
        status = str(http.get(f"/jobs/{job}").json()["status"])
        if status in ("successful", "failed", "dismissed"):
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not end")


def metrics(http: httpx2.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return all samples by name and the values of their labels."""
    families = text_string_to_metric_families(http.get("/metrics").raise_for_status().text)
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def lines_of(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


# --- health ----------------------------------------------------------------------------------------------------------


def test_a_well_service_says_so_part_by_part_without_a_token(serve: Serve) -> None:
    with client(serve(config=f'[[security.tokens]]\nactor = "ada"\nsha256 = "{DIGEST}"\n')) as http:
        health = http.get("/health")

        assert http.get("/processes").status_code == 401
        assert http.get("/health/live").json() == {"status": "ok", "live": True}
        assert http.get("/health/ready").status_code == 200
        assert health.status_code == 200
        assert health.headers["cache-control"] == "no-store"
        assert health.json() == {
            "status": "ok",
            "live": True,
            "ready": True,
            "parts": {name: {"ok": True} for name in ("ledger", "storage", "executor", "disk")},
        }


def test_a_service_without_its_storage_is_alive_but_not_ready(serve: Serve) -> None:
    server = serve()
    shutil.rmtree(server.home / "storage")
    with client(server) as http:
        ready = http.get("/health/ready")

        assert http.get("/health/live").status_code == 200
        assert ready.status_code == 503
        assert ready.json()["parts"]["storage"] == {
            "ok": False,
            "reason": "the storage cannot be used (its folder is not there: is its disk mounted?)",
        }
        assert ready.json()["parts"]["ledger"] == {"ok": True}


def test_a_disk_with_too_little_room_makes_a_service_not_ready(serve: Serve) -> None:
    with client(serve(env={"GRATICULE_STORAGE__MIN_FREE_MIB": str(1 << 40)})) as http:
        health = http.get("/health")

        assert health.status_code == 503
        assert "MiB are needed" in health.json()["parts"]["disk"]["reason"]
        assert http.get("/processes").status_code == 200


def test_with_too_little_room_no_job_is_created_and_one_that_was_is_found(tmp_path: Path) -> None:
    document = {"process": "hello-world", "inputs": {"name": "x"}, "status": "create"}
    with Server(tmp_path / "home") as roomy, client(roomy) as http:
        before = http.post("/jobs", json=document, headers={"Idempotency-Key": "k"}).headers["Location"]

    little = {"GRATICULE_STORAGE__MIN_FREE_MIB": str(1 << 40)}
    with Server(tmp_path / "home", environment=little) as full, client(full) as http:
        refused = [http.post("/jobs", json=document, headers=headers) for headers in ({}, {"Idempotency-Key": "new"})]
        again = http.post("/jobs", json=document, headers={"Idempotency-Key": "k"})
        jobs = http.get("/jobs").json()["jobs"]

    assert [answer.status_code for answer in refused] == [503, 503]
    assert all("MiB are needed" in answer.json()["detail"] for answer in refused)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert again.status_code == 201
    assert [job["jobID"] for job in jobs] == [before.rpartition("/")[2]]


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_count_requests_jobs_and_deliveries(serve: Serve) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "yes"})
    with client(server) as http, receiver() as heard:
        for _ in range(3):
            http.get("/processes")
        for name in ("a", "b"):
            http.get(f"/nowhere/{name}")
        assert execute(http, "hello-world", name="x").status_code == 200
        told = execute(http, "hello-world", "respond-async", {"successUri": heard.address("/told")}, name="x").json()
        crashed = execute(http, "crash", "respond-async", how="raise").json()
        assert wait_for(http, told["jobID"]) == "successful"
        assert wait_for(http, crashed["jobID"]) == "failed"
        deadline = time.monotonic() + 20
        while (found := metrics(http)).get(("graticule_deliveries_total", ("delivered",))) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert found["graticule_http_requests_total", ("GET", "/processes", "200")] == 3
    assert found["graticule_http_requests_total", ("GET", "", "404")] == 2
    assert found["graticule_http_requests_total", ("POST", "/processes/{processID}/execution", "201")] == 2
    assert found["graticule_jobs_ended_total", ("", "successful")] == 2
    assert found["graticule_jobs_ended_total", ("process error", "failed")] == 1
    assert found["graticule_job_run_seconds_count", ("hello-world",)] == 2
    assert found["graticule_job_run_seconds_bucket", ("+Inf", "crash")] == 1
    assert found["graticule_job_wait_seconds_count", ()] == 3
    assert found["graticule_jobs_waiting", ()] == 0
    assert found["graticule_leases_lost_total", ()] == 0
    assert ("graticule_event_loop_lag_seconds_count", ()) in found
    assert [name for name, _ in found if name == "graticule_build_info"]


def test_metrics_tell_of_a_queue_and_of_jobs_whose_server_was_killed(tmp_path: Path) -> None:
    alone = {"GRATICULE_JOBS__WORKERS": "1"}
    killed = Server(tmp_path / "home", [str(PROCESSES)], environment=alone).start()
    with client(killed) as http:
        for _ in range(3):
            execute(http, "nap", "respond-async", seconds=30)
        before = metrics(http)
    killed.kill()
    with Server(tmp_path / "home", [str(PROCESSES)], environment=alone) as server, client(server) as http:
        after = metrics(http)

    assert before["graticule_jobs_waiting", ()] == 2
    assert before["graticule_jobs_running", ()] == 1
    assert after["graticule_leases_lost_total", ()] == 1


def test_every_server_of_a_database_tells_how_many_wait_in_all(postgres: Postgres, tmp_path: Path) -> None:
    shared = {
        "GRATICULE_DATABASE__URL": postgres.new_database(),
        "GRATICULE_STORAGE__FOLDER": str(tmp_path / "storage"),
    }
    none = {**shared, "GRATICULE_JOBS__WORKERS": "0"}
    with (
        Server(tmp_path / "one", [str(PROCESSES)], environment=none) as one,
        Server(tmp_path / "two", [str(PROCESSES)], environment=none) as two,
        client(one) as http,
        client(two) as there,
    ):
        jobs = [execute(http, "nap", "respond-async", seconds=0).json()["jobID"] for _ in range(3)]
        before = [metrics(asked)["graticule_jobs_waiting", ()] for asked in (http, there)]
        with Worker(tmp_path / "worker", [str(PROCESSES)], environment=shared):
            for job in jobs:
                assert wait_for(http, job) == "successful"
            after = [metrics(asked)["graticule_jobs_waiting", ()] for asked in (http, there)]

    assert (before, after) == ([3, 3], [0, 0])


def test_metrics_are_for_this_machine_alone_unless_a_setting_says_otherwise(serve: Serve) -> None:
    proxied = serve(env={"GRATICULE_SERVER__TRUSTED_PROXIES": "127.0.0.1"})
    with client(proxied) as http:
        assert http.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
        assert http.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9, 127.0.0.1"}).status_code == 200
        assert http.get("/metrics").status_code == 403

    behind = serve(env={"GRATICULE_SERVER__PUBLIC_URL": "https://example.org/ogc"})
    with client(behind) as http:
        assert http.get("/metrics").status_code == 403

    nobody = serve(env={"GRATICULE_TELEMETRY__METRICS_READERS": "[]"})
    with client(nobody) as http:
        refused = http.get("/metrics")
        assert refused.status_code == 403
        assert "telemetry.metrics_readers" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["Forwarded", "Via", "X-Forwarded-For"])
def test_what_a_stranger_passed_on_does_not_count_as_this_machine(http: httpx2.Client, name: str) -> None:
    assert http.get("/metrics").status_code == 200
    assert http.get("/metrics", headers={name: "127.0.0.1"}).status_code == 403


def test_metrics_can_be_given_to_the_holder_of_a_token(serve: Serve) -> None:
    config = (
        'telemetry.metrics_readers = ["actor:prometheus"]\n'
        f'[[security.tokens]]\nactor = "prometheus"\nsha256 = "{DIGEST}"\n'
        f'[[security.tokens]]\nactor = "ada"\nsha256 = "{hashlib.sha256(b"another one").hexdigest()}"\n'
    )
    with client(serve(config=config)) as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/metrics", headers={"Authorization": "Bearer another one"}).status_code == 403
        assert http.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"}).status_code == 200


# --- logs ------------------------------------------------------------------------------------------------------------


def test_a_request_keeps_the_identifier_that_it_comes_with(http: httpx2.Client) -> None:
    assert http.get("/processes", headers={"X-Request-Id": "my-own.1"}).headers["x-request-id"] == "my-own.1"
    assert http.get("/nowhere", headers={"X-Request-Id": "my-own.2"}).headers["x-request-id"] == "my-own.2"
    own = {http.get("/processes").headers["x-request-id"] for _ in range(3)}
    assert len(own) == 3
    strange = http.get("/processes", headers={"X-Request-Id": 'x" level="error'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]+-[0-9]+", strange)


def test_logs_as_json_bind_requests_and_jobs_and_never_tell_secrets(serve: Serve) -> None:
    server = serve(str(PROCESSES), env={"GRATICULE_SERVER__LOG_FORMAT": "json", "GRATICULE_SERVER__ACCESS_LOG": "yes"})
    with client(server, Authorization=f"Bearer {SECRET}") as http:
        sent = execute(http, "crash", "respond-async", how="raise").json()["jobID"]
        wait_for(http, sent)
        http.get(f"/jobs/{sent}", params={"token": SECRET}, headers={"X-Request-Id": "mine"})
        http.get("/jobs", params={"processID": SECRET})

    lines = lines_of(server)
    (submitted,) = [line for line in lines if line.get("method") == "POST"]
    (ended,) = [line for line in lines if line["event"] == "job.ended"]
    (mine,) = [line for line in lines if line.get("request") == "mine"]
    assert submitted["job"] == ended["job"] == mine["job"] == sent
    assert submitted["status"] == 201
    assert (ended["status"], ended["cause"], ended["process"]) == ("failed", "process error", "crash")
    assert "request" not in ended
    assert mine["path"] == f"/jobs/{sent}"
    assert {"timestamp", "level", "seconds"} <= mine.keys()
    assert SECRET not in server.log


def test_without_an_access_log_nothing_is_written_of_requests(serve: Serve) -> None:
    server = serve()
    with client(server) as http:
        http.get("/processes")
        execute(http, "hello-world", name="x")

    assert "request" not in server.log


# --- traces ----------------------------------------------------------------------------------------------------------


class Collector(ThreadingHTTPServer):
    """Takes traces as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.spans: list[Any] = []
        self.services: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> Any:
        """Return the one span of a name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.services |= {
                item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as running:
        thread = Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("variable", ["GRATICULE_TELEMETRY__OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_a_trace_leads_from_the_request_to_the_job_its_process_and_its_callback(tmp_path: Path, variable: str) -> None:
    with collector() as collected, receiver() as heard:
        environment = {variable: collected.url, "GRATICULE_SECURITY__ALLOW_PRIVATE_ADDRESSES": "yes"}
        with Server(tmp_path / "home", [str(PROCESSES)], environment=environment) as server, client(server) as http:
            job = http.post(
                "/processes/who-am-i/execution",
                json={"inputs": {}, "subscriber": {"successUri": heard.address("/told")}},
                headers={"Prefer": "respond-async", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            ).json()["jobID"]
            wait_for(http, job)
            environment_of_job = http.get(f"/jobs/{job}/results").json()["environment"]
            told = heard.wait("/told")

    request = collected.named("POST /processes/{processID}/execution")
    whole, work = collected.named("job who-am-i"), collected.named("run who-am-i")
    assert {span.trace_id.hex() for span in (request, whole, work)} == {TRACE}
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert whole.parent_span_id == request.span_id
    assert work.parent_span_id == whole.span_id
    assert whole.start_time_unix_nano <= work.start_time_unix_nano < work.end_time_unix_nano
    assert environment_of_job["TRACEPARENT"] == f"00-{TRACE}-{work.span_id.hex()}-01"
    assert told[0].headers["traceparent"] == f"00-{TRACE}-{whole.span_id.hex()}-01"
    assert collected.services == {"graticule"}


def test_a_collector_that_is_not_there_keeps_nobody_waiting(tmp_path: Path) -> None:
    nowhere = {"GRATICULE_TELEMETRY__OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with Server(tmp_path / "home", environment=nowhere) as server, client(server) as http:
        assert execute(http, "hello-world", name="x").status_code == 200
        began = time.monotonic()

    assert time.monotonic() - began < 8


def test_without_a_collector_nothing_of_a_trace_is_carried(tmp_path: Path) -> None:
    with Server(tmp_path / "home", [str(PROCESSES)]) as server, client(server) as http:
        answer = http.post(
            "/processes/who-am-i/execution",
            json={"inputs": {}},
            headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        )

        assert "TRACEPARENT" not in answer.json()["environment"]
