"""What subscribers are sent is never too large for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from graticule.data.storages.local import LocalStorage
from graticule.jobs.job import Failure, Fault, Job, StoredOutput, StoredValue
from graticule.jobs.results import ResultStore
from graticule.processes.catalog import Catalog
from graticule.testing.ledger import NOON, running
from graticule.web.callbacks import BODY_BYTES, callback_document

encode = msgspec.msgpack.encode


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    """The parts that are asked: no processes, and results in a folder."""
    store = ResultStore(LocalStorage(tmp_path))
    return SimpleNamespace(catalog=Catalog([], lambda _: True), engine=SimpleNamespace(results=store))


def successful(values: int, size: int) -> Job:
    """Return a job with so many values of so many bytes each."""
    text = msgspec.json.encode("\x01" * (size // 6))
    manifest = {"texts": StoredOutput(values=[StoredValue(content=text, size=size)] * values, many=True)}
    begun = running("j1", request=b"{}", base="http://here")
    return begun.moved_to("successful", at=NOON, manifest=encode(manifest))


def told(parts: Any, job: Job) -> Any:
    document = callback_document(parts, job, "success" if job.status == "successful" else "failed")
    assert len(document) <= BODY_BYTES
    return msgspec.json.decode(document)


def test_small_values_are_sent_themselves(parts: Any) -> None:
    assert told(parts, successful(4, 60))["texts"] == ["\x01" * 10] * 4


def test_values_that_are_too_large_together_are_links(parts: Any) -> None:
    values = told(parts, successful(20, 6000))["texts"]

    assert any("href" in value for value in values if isinstance(value, dict))


def test_links_that_are_too_many_are_told_by_the_status_which_links_them(parts: Any) -> None:
    document = told(parts, successful(2000, 600))

    assert (document["status"], document["id"]) == ("successful", "j1")
    assert any(link["href"] == "http://here/jobs/j1/results" for link in document["links"])


def test_a_failure_with_very_many_faults_is_told_without_them(parts: Any) -> None:
    failure = Failure(
        cause="bad input", detail="d" * 90_000, faults=[Fault("/inputs/x", "is wrong")] * 5000
    )  # fmt: skip
    job = running("j1", base="http://here").moved_to("failed", at=NOON, failure=encode(failure), message="m" * 90_000)

    exception = told(parts, job)["exception"]

    assert exception["detail"].startswith("ddd")
    assert "errors" not in exception
